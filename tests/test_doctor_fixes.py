"""What the doctor proposes fits what it found: nothing that is far from it, and nothing that was right."""

import secrets

import pytest

from .test_doctor import KEY, SOUND, VERBS, append, cluster, examine, hubs_environment, of, serve, values_files  # noqa: F401


@pytest.mark.parametrize("threads", ['"many"', "0", "-1", "None"])
def test_a_wrong_number_of_threads_leaves_the_key_alone(examine, threads):  # noqa: F811
    key = secrets.token_hex(32)
    config = f'{SOUND}c.CryptKeeper.keys = ["{key}"]\nc.CryptKeeper.n_threads = {threads}\n'
    status, findings = examine(config)
    (found,) = (finding for finding in findings if finding["level"] != "ok")
    assert status == 1 and found["id"] == "crypt-key-bad" and "n_threads" in found["what"]
    assert {finding["level"] for finding in examine(append(config, found["fix"]))[1]} == {"ok"}
    # and the key is looked at
    (*_, found) = (each for each in examine(config.replace(key, "short"))[1] if each["id"] == "crypt-key-bad")
    assert {"kind": "config", "text": "del c.CryptKeeper.keys"} in found["fix"]


def test_a_number_of_threads_is_a_number(examine, monkeypatch):  # noqa: F811
    monkeypatch.delenv(KEY)
    assert of(examine(f"{SOUND}c.CryptKeeper.n_threads = 2\n")[1], "error") == ["crypt-key-missing"]


def test_a_wrong_number_of_threads_is_found_in_values_too(examine, cluster):  # noqa: F811
    cluster(VERBS)
    (text,) = (block.values[0] for block in values_files())
    broken = text.replace("    JupyterHub:", "    CryptKeeper: {n_threads: many}\n    JupyterHub:", 1)
    assert broken != text
    _, findings = examine(broken, "values.yaml", "--values")
    (found,) = (finding for finding in findings if finding["level"] == "error")
    assert found["fix"][0]["text"].startswith("hub.config.CryptKeeper.n_threads: 1")
