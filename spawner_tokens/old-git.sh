# For git older than 2.31, which reads no GIT_CONFIG_COUNT: hands it the same entries as `git -c` would. Any other git is
# left alone. To be sourced before the server starts: copy it to /usr/local/bin/before-notebook.d/ in the image.
if command -v git >/dev/null && test "${GIT_CONFIG_COUNT:-0}" -gt 0 2>/dev/null &&
    test "$(GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=probe.read GIT_CONFIG_VALUE_0=yes git config probe.read)" != yes
then
    GIT_CONFIG_PARAMETERS=$(
        entries=${GIT_CONFIG_PARAMETERS:-}
        number=0
        while test "$number" -lt "$GIT_CONFIG_COUNT"
        do
            eval "entry=\${GIT_CONFIG_KEY_$number-}=\${GIT_CONFIG_VALUE_$number-}"
            entries="$entries${entries:+ }'$(printf '%s' "$entry" | sed "s/'/'\\\\''/g")'"
            number=$((number + 1))
        done
        printf '%s' "$entries"
    )
    export GIT_CONFIG_PARAMETERS
fi
