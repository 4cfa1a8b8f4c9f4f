"""What a release needs: workflows, pictures, and what describes the package."""

import re
from configparser import ConfigParser
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").iterdir())
PICTURES = sorted((ROOT / "docs" / "_static").glob("*.png"))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_runs_only_what_is_pinned_and_has_few_rights(path):
    text = path.read_text()
    workflow = yaml.safe_load(text)
    assert "secrets." not in text
    for used in re.findall("uses: (.+)", text):
        assert re.fullmatch(r"[\w/-]+@[0-9a-f]{40}  # v\d+\.\d+\.\d+", used)
    for name, job in workflow["jobs"].items():
        rights = job.get("permissions", workflow["permissions"])
        assert rights == ({"id-token": "write"} if name == "publish" else {"contents": "read"})
        assert job["timeout-minutes"] <= 30


def test_the_workflow_tests_each_python_that_the_package_names():
    config = ConfigParser()
    config.read(ROOT / "setup.cfg")
    named = re.findall(r"Python :: (3\.\d+)$", config["metadata"]["classifiers"], re.MULTILINE)
    jobs = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text())["jobs"]
    assert jobs["test"]["strategy"]["matrix"]["python"] == named
    assert config["options"]["python_requires"] == f">={named[0]}"


def test_pictures_are_small_and_shown():
    pages = "".join(page.read_text() for page in (ROOT / "docs").rglob("*.rst"))
    assert len(PICTURES) == 4
    for path in PICTURES:
        assert path.stat().st_size <= 150_000 and f":: ../_static/{path.name}\n" in pages, path
