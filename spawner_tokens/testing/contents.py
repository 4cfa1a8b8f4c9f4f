"""What the contract delivers: names and contents that a backend may take for something else."""

from __future__ import annotations

from collections.abc import Mapping

# Name → contents; ``None`` for a file that must not be there.
Files = Mapping[str, "bytes | None"]

# What templates, shells, environments, JSON or line endings would change.
DIFFICULT_VALUES: Mapping[str, bytes] = {
    "braces": b"{token} {0} {{}} {",
    "expansions": b"$(X) ${X} $X $$ `id` %s %(x)s \\x41 \\n ~ *",
    "quotes": b"\"' '' \"\" \\\" \\'",
    "lines": b"one\ntwo\r\n\n\tthree\n",
    "spaces": b" -n --help # ; & | < > ",
    "unicode": "żółć 密钥 🔑 \u202e\ufeff".encode(),
    "json": b'{"null": null, "a": ["\\u0000", 1e400]}',
    "empty": b"",
    "large": bytes(range(33, 127)) * 700,  # 64 kB
}

# A token's name is a file name: lower-case letters and digits, with ".", "-" and "_" between them.
DIFFICULT_NAMES = (
    "a",
    "0",
    "a.b",
    "a-b",
    "a_b",
    "a--b..c__d",
    "t.json",
    "t.config.json",
    "x" * 100,
)
