"""The generated parts of the README: ``python -m tests.support.reference`` writes them anew."""

import re
from pathlib import Path
from textwrap import dedent, indent

from traitlets import Dict, List

from spawner_tokens.backends.docker.spawner import DockerTokenMixin
from spawner_tokens.backends.kubernetes.spawner import KubeTokenMixin
from spawner_tokens.doctor.finding import WHY
from spawner_tokens.tokens.lifetime import Lifetime
from spawner_tokens.tokens.presets import CONSUMERS, PROVIDERS
from spawner_tokens.tokens.spec import parse_tokens
from spawner_tokens.traits import TokenTraits

README = Path(__file__).parents[2] / "README.rst"


def make_reference():
    """The traits, with defaults and help: those of all classes, then the backends' own."""
    parts = [make_traits(TokenTraits)]
    for backend in (DockerTokenMixin, KubeTokenMixin):
        parts.append(f"And of ``{backend.__name__}``:\n\n{make_traits(backend)}")
    return "\n".join(parts)


def make_traits(owner):
    parts = []
    for name, trait in sorted(owner.class_own_traits(config=True).items()):
        default = trait.default() if isinstance(trait, (Dict, List)) else trait.default_value
        parts.append(f"``{name}``: {trait.info()}, default ``{default!r}``\n")
        text = re.sub(
            r"\.\. versionadded:: (.*)", r"*New in version \1.*", dedent(trait.help).strip()
        )
        parts.append(indent(text, "    ") + "\n")
    return "\n".join(parts)


def make_preset_table():
    """The presets, with all that they set."""
    rows = [("preset", "``url``", "the token", "companions")]
    for preset, fields in PROVIDERS.items():
        given = {"preset": preset} | ({"url": "https://…"} if fields.get("url", "") is None else {})
        (spec,) = parse_tokens({preset: given}, files=True)
        url = "needed" if "url" in given else fields.get("url") or "–"
        companions = ", ".join(f"``{variable}``" for variable in [*spec.variables, *spec.settings])
        rows.append(
            (
                f"``{preset}``",
                url,
                ", ".join(f"``{variable}``" for variable in spec.env),
                companions,
            )
        )
    return make_table(rows)


def make_consumer_table():
    """The presets for clouds, with all that they set."""
    rows = [("preset", "``settings`` needed", "variables that get a path", "from the login")]
    for preset, fields in CONSUMERS.items():
        settings = dict.fromkeys(fields["settings"], "…")
        (spec,) = parse_tokens({preset: {"preset": preset, "settings": settings}}, files=True)
        paths = [variable for variable in (spec.file_env, spec.config_env) if variable]
        cells = [
            ", ".join(f"``{variable}``" for variable in names)
            for names in (settings, paths, spec.variables)
        ]
        rows.append((f"``{preset}``", *(cell or "–" for cell in cells)))
    return make_table(rows)


def make_freshness_table():
    """When a running server's token is renewed, of the lives that providers give."""
    rows = [
        (name, " to ".join(f"{lifetime.stale_at(300, 0, spread) / 60:g}" for spread in (0, 1)))
        for name, seconds in (
            ("5 minutes", 300),
            ("1 hour", 3600),
            ("2 hours", 7200),
            ("8 hours", 28800),
        )
        for lifetime in [Lifetime(0, seconds, seconds)]
    ]
    return make_table([("a token that lives", "is renewed after minutes"), *rows])


def make_findings_table():
    """The doctor's findings, and why each one matters."""
    return make_table(
        [("finding", "why it matters"), *((f"``{id}``", why) for id, why in WHY.items())]
    )


def make_table(rows):
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    rule = "  ".join("=" * width for width in widths)
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return "\n".join([rule, lines[0], rule, *lines[1:], rule, ""])


def generated(text):
    """The README with its generated parts as they should be."""
    parts = {
        "reference": make_reference(),
        "presets": make_preset_table(),
        "consumers": make_consumer_table(),
        "freshness": make_freshness_table(),
        "findings": make_findings_table(),
    }
    for mark, part in parts.items():
        before, rest = text.split(f".. {mark}-begin\n")
        _, after = rest.split(f".. {mark}-end\n")
        text = f"{before}.. {mark}-begin\n\n{part}\n.. {mark}-end\n{after}"
    return text


if __name__ == "__main__":
    README.write_text(generated(README.read_text()))
