"""The app's start: the address it prints, what it loads before that, how it refuses and how it ends."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

import app
from flux_demo import listening
from flux_demo.environment import GRADIO_DROPPED
from flux_demo.errors import FluxDemoError
from tests.starting import ROOT, answers, free_port, ports_of, refusal, started


def test_who_ends_it_as_soon_as_it_runs_ends_it_cleanly():
    """The page answers a moment before its start is over."""
    ended = "import app\ndef printed(line):\n    print(line, flush=True)\n    raise KeyboardInterrupt\napp._print = printed\n"
    command = [sys.executable, "-c", f"{ended}raise SystemExit(app.main(['--backend', 'mini', '--port', '{free_port()}']))"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0 and done.stdout.startswith("Running on ") and done.stderr == ""


def directly(address: str) -> bool:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    return opener.open(address, timeout=30).status == 200


@pytest.mark.parametrize(
    ("number", "environment"),
    [
        (
            signal.SIGTERM,
            {
                "HTTP_PROXY": "http://127.0.0.1:9",
                "http_proxy": "http://127.0.0.1:9",
                "ALL_PROXY": "socks://127.0.0.1:9/",
                "NO_PROXY": "example.org",
                "GRADIO_ALLOWED_PATHS": str(ROOT),
                "GRADIO_DEBUG": "1",
                "GRADIO_NUM_WORKERS": "1",
            },
        ),
        (
            signal.SIGINT,
            {"all_proxy": "socks5://127.0.0.1:9", "no_proxy": "localhost,[::1]", "GRADIO_SERVER_PORT": "http", "HOME": "/nowhere"},
        ),
    ],
    ids=["SIGTERM", "SIGINT"],
)
def test_in_the_environments_that_people_have_the_page_answers_at_the_printed_address_and_ends_cleanly(number, environment):
    port, dropped = free_port(), [name for name in GRADIO_DROPPED if name in environment]
    with started("--port", str(port), **environment) as (process, address, lines):
        assert address == f"http://127.0.0.1:{port}/" and [line.partition(" ")[0] for line in lines] == [*dropped, "Running"]
        assert directly(address) and ports_of(process.pid) == {port}
        assert status_of(f"{address}gradio_api/file={__file__}") == 403
        process.send_signal(number)
        rest = process.stdout.read()
        assert (process.wait(timeout=30), rest) == (0, "")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))


def test_no_model_library_is_loaded_before_the_page_answers_and_then_torchs_threads_are_told_to_sleep():
    """OpenMP reads the environment once, when torch is imported: here by the warm-up behind the page."""
    with started("--port", str(free_port()), python=("-X", "importtime"), OMP_DISPLAY_ENV="TRUE") as (process, _, lines):
        before = {line.rpartition("|")[2].strip() for line in lines}
        assert "gradio" in before
        assert not before & {"torch", "diffusers", "transformers", "cv2"}
        if sys.platform != "win32":  # torch has another OpenMP there, which does not say how it was set
            said = (found[1] for line in process.stdout if (found := re.search(r"OMP_WAIT_POLICY ?= ?'(\w+)'", line)))
            assert next(said) == "PASSIVE"


def test_gradio_checks_no_files_for_editors_when_the_page_starts():
    """It would parse and print the source of each of its components; that alone took longer than all of our own start."""
    code = """import ast, inspect
segment, getfile, read = ast.get_source_segment, inspect.getfile, []
ast.get_source_segment = lambda *given: read.append(given) or segment(*given)
import flux_demo.ui
print(len(read), inspect.getfile is getfile)
from gradio import component_meta
from gradio.components import textbox
component_meta.extract_class_source_code(inspect.getsource(textbox), "Textbox")
print(len(read))"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120, check=True)
    before, put_back, after = done.stdout.split()
    assert int(before) <= 2, "our own page is a class of Gradio's Blocks, which is read twice; no component is"
    assert (put_back, int(after) - int(before)) == ("True", 1), "what was replaced is back, and Gradio reads as it is counted here"


def test_gradios_own_variables_decide_when_no_address_is_given_and_who_opens_the_page_is_told_once_how_to_close_it():
    port = free_port()
    with started(GRADIO_SERVER_PORT=str(port), GRADIO_SERVER_NAME="0.0.0.0") as (_, address, lines):
        assert address.rstrip("/").endswith(f":{port}")
        assert answers(f"http://127.0.0.1:{port}/")
        assert [line for line in lines if "--auth USER:PASSWORD" in line] == lines[:1]


@pytest.mark.parametrize(
    ("host", "shared", "public", "who"),
    [
        ("127.0.0.1", None, False, None),
        ("0.0.0.0", None, True, "Everybody who can reach this machine over the network can use this page"),
        ("0.0.0.0", None, False, "yours alone, but it listens on 0.0.0.0: everybody who can reach that can use this page"),
        ("127.0.0.1", "https://x.gradio.live", True, "Everybody who has the link can use this page"),
    ],
)
def test_an_open_address_is_said_also_where_its_owner_says_that_nobody_else_comes(host, shared, public, who, capsys):
    app._say_who_may_enter(host, shared, public)
    said = capsys.readouterr().err
    assert who in said if who else not said


needs_ipv6 = pytest.mark.skipif(not os.path.exists("/proc/net/if_inet6"), reason="this machine has no IPv6")


@needs_ipv6
@pytest.mark.parametrize(("words", "environment"), [(("--host", "::1"), {}), ((), {"GRADIO_SERVER_NAME": "[::]"})])
def test_ipv6_addresses_are_listened_on(words, environment):
    port = free_port()
    with started("--port", str(port), *words, **environment) as (_, address, _lines):
        assert address == f"http://[::1]:{port}/" and answers(address)


@needs_ipv6
@pytest.mark.parametrize("host", ["::", "[::]", " [::] "])
def test_ipv6_addresses_are_read_with_and_without_brackets(host):
    assert listening.read_host(host) == "::" and listening.to_open("::", 1) == "http://[::1]:1/"


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("HTTPS_PROXY", "socks4://127.0.0.1:9"),
        ("SSL_CERT_FILE", "/nowhere/ca.pem"),
        ("GRADIO_TEMP_DIR", "/proc/nowhere"),
        ("GRADIO_NUM_PORTS", "many"),
        ("GRADIO_SERVER_PORT", "70000"),
        ("FLUX_DEMO_AUTH", "nobody"),
    ],
)
def test_what_a_library_cannot_read_is_one_sentence_with_the_variables_name(variable, value):
    said = refusal(**{variable: value})
    assert variable in said and len(said.splitlines()) == 1


@pytest.mark.parametrize("name", ["style.css", "opening.js", "words.js", "page.js"])
def test_a_missing_file_of_the_page_is_named(name, tmp_path, monkeypatch):
    import flux_demo.ui

    assets = tmp_path / "assets"
    assets.mkdir()
    for path in (ROOT / "assets").iterdir():
        if path.name != name:
            (assets / path.name).symlink_to(path)
    monkeypatch.setattr(flux_demo.ui, "ASSETS", assets)
    with pytest.raises(FluxDemoError, match=rf"assets/{name} is missing"):
        flux_demo.ui.launch_options()


def test_a_start_without_a_file_of_the_page_is_one_sentence(tmp_path):
    for each in ("app.py", "flux_demo"):
        (tmp_path / each).symlink_to(ROOT / each)
    (tmp_path / "assets").mkdir()
    for path in (ROOT / "assets").iterdir():
        if path.name != "opening.js":
            (tmp_path / "assets" / path.name).symlink_to(path)
    code = f"""import pathlib, sys
sys.path.insert(0, {str(ROOT)!r})
import flux_demo.settings
flux_demo.settings.ASSETS = pathlib.Path({str(tmp_path / "assets")!r})
import app
sys.exit(app.main(["--backend", "mini", "--port", "{free_port()}"]))"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 3 and "assets/opening.js is missing" in done.stderr and len(done.stderr.splitlines()) == 1


def test_the_page_starts_without_standard_streams():
    port = free_port()
    command = f"exec {sys.executable} app.py --backend mini --port {port} <&- >&- 2>&-"
    with subprocess.Popen(["bash", "-c", command], cwd=ROOT) as process:
        try:
            for _ in range(300):
                try:
                    assert directly(f"http://127.0.0.1:{port}/")
                    break
                except OSError:
                    assert process.poll() is None
                    time.sleep(0.2)
            else:
                pytest.fail("the page did not answer")
        finally:
            process.kill()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
def test_the_page_starts_where_its_address_cannot_be_written():
    port = free_port()
    command = f"exec {sys.executable} app.py --backend mini --port {port} >/dev/full 2>&1"
    with subprocess.Popen(["bash", "-c", command], cwd=ROOT) as process:
        try:
            for _ in range(300):
                try:
                    assert directly(f"http://127.0.0.1:{port}/")
                    break
                except OSError:
                    assert process.poll() is None
                    time.sleep(0.2)
            time.sleep(1)
            assert process.poll() is None
        finally:
            process.kill()


def status_of(url: str, **headers: str) -> int:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        return opener.open(urllib.request.Request(url, headers=headers), timeout=30).status
    except urllib.error.HTTPError as error:
        return error.code


def test_a_password_is_asked_for(tmp_path):
    """Who has it makes images, which go to the folder that is named."""
    from gradio_client import Client

    words = ("--port", str(free_port()), "--host", "0.0.0.0", "--outputs", str(tmp_path / "mine"), "--auth", "me:pass:word")
    with started(*words) as (_, address, lines):
        assert len(lines) == 1  # nobody enters who does not know it, so there is nothing to warn of
        assert status_of(f"{address}config") == 401
        assert status_of(f"{address}gradio_api/mcp/") == 403  # its calls could not say who they are
        with pytest.raises(Exception, match="(?i)auth|credential|401|login"):
            Client(address, verbose=False, download_files=str(tmp_path))
        client = Client(address, auth=("me", "pass:word"), verbose=False, download_files=str(tmp_path))
        assert client.predict(api_name="/status")["modes"]["text"]["backend"] == "mini"
        client.predict("a red cube", size="128x128", steps=2, api_name="/text")
        client.close()
    assert len(list((tmp_path / "mine").glob("*.png"))) == 1


def test_a_port_that_is_taken_is_said_in_words():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert "is taken by another program" in refusal("--port", str(taken.getsockname()[1]))


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--port", "70000"), "is not a valid port"),
        (("--outputs", __file__), "not a directory). Choose another one with --outputs."),
        (("--port", "0"), "is not a valid port"),
        (("--host", "nowhere.invalid"), "is not an address of this machine"),
        (("--host", "192.0.2.1"), "is not an address of this machine"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_an_address_that_cannot_be_is_said_in_words(words, sentence):
    assert sentence in refusal(*words)


def test_a_wrong_setting_is_said_in_words(monkeypatch):
    monkeypatch.setenv("GRADIO_SERVER_NAME", "nowhere.invalid")
    assert "'nowhere.invalid' is not an address of this machine. Give GRADIO_SERVER_NAME 127.0.0.1" in refusal()
    monkeypatch.setenv("FLUX_DEMO_BACKEND", "abacus")
    assert "'abacus' is not a backend. Set FLUX_DEMO_BACKEND" in refusal()


@pytest.mark.parametrize("words", [("--backend", "abacus"), ("--port", "http"), ("--nonsense",)], ids=" ".join)
def test_what_the_parser_refuses_exits_2(words):
    done = subprocess.run([sys.executable, "app.py", *words], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "usage: python app.py" in done.stderr


@pytest.mark.parametrize(
    ("words", "environment"), [(("--share",), {"FLUX_DEMO_PUBLIC": "0"}), ((), {"GRADIO_SHARE": "True"})], ids=["option", "variable"]
)
def test_a_page_that_gets_no_public_link_ends_and_says_why(words, environment, tmp_path):
    command = [sys.executable, "app.py", "--backend", "mini", "--port", str(free_port()), "--outputs", str(tmp_path), *words]
    environment = os.environ | {"HTTPS_PROXY": "http://127.0.0.1:9"} | environment
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 3 and "Running on" not in done.stdout
    assert done.stderr.splitlines()[-1].startswith("No public link could be made") and "without --share" in done.stderr
    assert ("FLUX_DEMO_PUBLIC=0 has no effect" in done.stderr) is ("FLUX_DEMO_PUBLIC" in environment)


def test_an_empty_folder_for_outputs_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("FLUX_DEMO_OUTPUTS", str(tmp_path))
    assert refusal("--outputs", "") == "The outputs folder has no name. Give one to --outputs, or leave it out.\n"
