"""What the pages take from the code when the site is built: a Sphinx extension."""

import inspect
from contextlib import redirect_stdout
from io import StringIO

from docutils import nodes
from docutils.parsers.rst import Directive
from docutils.statemachine import StringList
from sphinx.domains.std import GenericObject
from sphinx.errors import ExtensionError

import spawner_tokens
from spawner_tokens import refusal
from spawner_tokens.__main__ import make_parser
from spawner_tokens.doctor.finding import DOCUMENTATION, WHY, make_address
from spawner_tokens.tokens.lifetime import Lifetime
from spawner_tokens.tokens.presets import CONSUMERS, PROVIDERS
from spawner_tokens.tokens.selection import Reason
from spawner_tokens.tokens.spec import parse_tokens


def make_table(*rows):
    """A table of rows of cells; the first one is its head."""
    lines = [".. list-table::", "   :header-rows: 1", ""]
    for row in rows:
        lines += [f"   {'- ' if column else '* - '}{cell}" for column, cell in enumerate(row)]
    return "\n".join(line.replace("   - ", "     - ") for line in lines)


def make_literals(names):
    return ", ".join(f"``{name}``" for name in names) or "–"


def make_providers():
    """The presets of providers, with all that they set."""
    rows = [("preset, and its ``url``", "the token", "companions")]
    for preset, fields in PROVIDERS.items():
        given = {"preset": preset} | ({"url": "https://…"} if fields.get("url", "") is None else {})
        (spec,) = parse_tokens({preset: given}, files=True)
        name = make_literals(filter(None, [preset, fields.get("url")]))
        name += ", ``url`` needed" if "url" in given else ""
        companions = make_literals([*spec.variables, *spec.settings])
        rows.append((name, make_literals(spec.env), companions))
    return make_table(*rows)


def make_tools():
    """The presets for clouds and tools, with all that they set."""
    rows = [("preset", "needed", "variables that it adds")]
    for preset, fields in CONSUMERS.items():
        constants = fields.get("settings", {})
        needed = [name for name, text in constants.items() if text is None]
        given = {"settings": dict.fromkeys(needed, "…")} if needed else {}
        if fields.get("url", "") is None:
            given["url"] = "https://…"
        (spec,) = parse_tokens({preset: {"preset": preset, **given}}, files=True)
        more = filter(None, [spec.file_env, spec.config_env, *spec.variables, *spec.settings])
        added = make_literals(name for name in more if name not in needed)
        rows.append((f"``{preset}``", make_literals(needed or given), added))
    return make_table(*rows)


def make_renewal_times():
    """When a running server's token is renewed, of the lives that providers give."""
    rows = [("a token that lives", "is renewed after")]
    lives = {"5 minutes": 300, "1 hour": 3600, "2 hours": 7200, "8 hours": 28800}
    for name, seconds in lives.items():
        lifetime = Lifetime(0, seconds, seconds)
        first, last = (lifetime.stale_at(300, 0, spread) / 60 for spread in (0, 1))
        rows.append((name, f"{first:g} to {last:g} minutes"))
    return make_table(*rows)


def make_help():
    """What ``--help`` prints, of each command."""
    parts = []
    for command in ("demo", "doctor", "explain", "rbac", "get", "status"):
        help = StringIO()
        with redirect_stdout(help):
            try:
                make_parser().parse_args([command, "--help"])
            except SystemExit:
                pass
        title = f"``spawner-tokens {command}``"
        text = help.getvalue().replace("\n", "\n    ")
        parts.append(f"{title}\n{'-' * len(title)}\n\n::\n\n    {text}")
    return "\n\n".join(parts)


class Generated(Directive):
    """A directive that stands for the text that ``make`` returns."""

    def run(self):
        text = StringList(type(self).make().splitlines(), source=f"<{self.name}>")
        node = nodes.section()
        node.document = self.state.document
        self.state.nested_parse(text, self.content_offset, node, match_titles=True)
        return node.children


class Entry(GenericObject):
    """An entry of the reference: what the code says of it, and below it the page's own words."""

    def transform_content(self, content_node):
        text = StringList(type(self).make(self.names[0]).splitlines(), source=f"<{self.name}>")
        node = nodes.Element()
        self.state.nested_parse(text, self.content_offset, node)
        content_node[:0] = node.children


def make_finding(id):
    return f"**{WHY[id]}**"


def make_status(status):
    words = refusal._WORDS[Reason(status)]
    return f"The log says: *{words.admin}*. The user reads: *{words.user}*."


ENTRIES = {"finding": (make_finding, WHY), "status": (make_status, [each.value for each in Reason])}
TEXTS = {
    "help": make_help,
    "providers": make_providers,
    "renewal-times": make_renewal_times,
    "tools": make_tools,
}


def check(app, env):
    """Each finding, status and trait has its entry, findings at the address that is printed."""
    entries = env.domains.standard_domain.objects
    missing = {(kind, name) for kind, (_, names) in ENTRIES.items() for name in names}
    if missing := missing - entries.keys():
        raise ExtensionError(f"the reference does not have {sorted(missing)}")
    for id in WHY:
        page, anchor = entries["finding", id]
        address = f"{DOCUMENTATION}{app.builder.get_target_uri(page)}#{anchor}"
        if make_address(id) != address:
            raise ExtensionError(f"{address} is printed as {make_address(id)}")
    for name in sorted({*spawner_tokens.__all__} - {"__version__"}):
        owner = getattr(spawner_tokens, name)
        for trait, each in owner.class_traits(config=True).items():
            documented = {
                f"spawner_tokens.{base.__name__}.{trait}" for base in inspect.getmro(owner)
            }
            is_ours = (each.this_class or owner).__module__.startswith("spawner_tokens.")
            if is_ours and not documented & env.domains.python_domain.objects.keys():
                raise ExtensionError(f"the reference does not have {name}.{trait}")


def check_tables(app, env):
    """No cell is empty: a row whose first cell has two lines is two rows in a simple table."""
    for page in env.found_docs:
        for entry in env.get_doctree(page).findall(nodes.entry):
            if not entry.children:
                raise ExtensionError(f"{page} has an empty cell beside {entry.parent.astext()!r}")


def setup(app):
    for name, make in TEXTS.items():
        app.add_directive(name, type(name, (Generated,), {"make": staticmethod(make)}))
    for name, (make, _) in ENTRIES.items():
        app.add_object_type(name, name)
        directive = type(name, (Entry,), {"make": staticmethod(make)})
        app.add_directive_to_domain("std", name, directive, override=True)
    app.connect("env-check-consistency", check)
    app.connect("env-check-consistency", check_tables)
    return {"parallel_read_safe": True}
