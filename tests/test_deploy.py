"""The files for clusters and containers: read by the schema where there is one, and held against what the program really takes."""

import json
import os
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

import app
from flux_demo.cli import parser
from flux_demo.serve_schema import Options
from flux_demo.settings import Settings
from tests.starting import free_port

ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Ray's own schema, with the newest Pydantic
DEPLOY = ROOT / "deploy"
DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8")
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))
KUBERAY = yaml.safe_load((DEPLOY / "kuberay.yaml").read_text("utf-8"))
HF_HOME = re.findall(r"HF_HOME=(\S+)", DOCKERFILE)[0]
NAMES = {variable.name for variable in Settings.variables()}


def serve_configs():
    return [yaml.safe_load((DEPLOY / "serve.yaml").read_text("utf-8")), yaml.safe_load(KUBERAY["spec"]["serveConfigV2"])]


@pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: pip install -r requirements-serve.txt")
@pytest.mark.parametrize("config", serve_configs(), ids=["serve.yaml", "kuberay.yaml"])
def test_ray_serve_reads_the_config_and_finds_the_application(config):
    from pkgutil import resolve_name

    from ray.serve.schema import ServeDeploySchema

    (application,) = ServeDeploySchema.model_validate(config).applications
    assert callable(resolve_name(application.import_path))


@pytest.mark.parametrize("config", serve_configs(), ids=["serve.yaml", "kuberay.yaml"])
def test_the_services_options_are_those_that_it_has(config):
    options = Options(**config["applications"][0]["args"])
    assert options.backend == "local" and options.public and not options.allow_unfiltered


def test_the_cluster_has_a_gpu_for_each_replica_and_the_ray_that_was_tested():
    cluster = KUBERAY["spec"]["rayClusterConfig"]
    pins = dict(re.findall(r"^(\S+)==(\S+)$", (ROOT / "constraints.txt").read_text("utf-8"), re.MULTILINE))
    assert (KUBERAY["apiVersion"], KUBERAY["kind"], cluster["rayVersion"]) == ("ray.io/v1", "RayService", pins["ray"])
    (group,) = cluster["workerGroupSpecs"]
    (worker,) = group["template"]["spec"]["containers"]
    assert worker["resources"]["limits"]["nvidia.com/gpu"] == "1" and group["maxReplicas"] == Options(replicas="1-4").replica_range[1]
    assert {row["name"] for row in worker["env"]} <= NAMES


def test_the_composed_services_start_with_words_that_are_understood():
    service, page = COMPOSE["services"]["service"], COMPOSE["services"]["page"]
    assert set(service["environment"]) | set(page["environment"]) <= NAMES
    assert app._parser().parse_args(page["command"][2:]).backend == "nim"
    if find_spec("ray"):
        from flux_demo.serve import _parser

        asked = _parser().parse_args(service["command"][3:])
        assert asked.port == int(page["environment"]["FLUX_DEMO_NIM_URL"].rpartition(":")[2])
    assert dict(each.split(":") for each in page["volumes"]).items() >= {("images", "/images")} and "images" in COMPOSE["volumes"]
    assert Settings.from_env(page["environment"]).public is False  # else its owner's images would be deleted after a day
    assert all(port.startswith("127.0.0.1:") for port in page["ports"])  # that nobody else reaches it is true only so


def test_what_the_composed_services_fetch_is_where_both_look_for_it():
    fetches = re.findall(r"^#.* run --rm (\w+) python -m flux_demo (.+)$", (DEPLOY / "compose.yaml").read_text("utf-8"), re.MULTILINE)
    assert [parser.parse(words.split()).what for _, words in fetches] == ["text", "filter", "estimator"]
    for name in ("page", *(name for name, _ in fetches)):
        assert f"models:{HF_HOME}" in COMPOSE["services"][name]["volumes"] and "models" in COMPOSE["volumes"]


def test_the_image_is_built_of_files_that_are_there_and_runs_as_nobody_special():
    for sources in re.findall(r"^COPY --chown=user (.+) \S+$", DOCKERFILE, re.MULTILINE):
        assert all((ROOT / name).exists() for name in sources.split())
    assert DOCKERFILE.index("\nUSER user") < DOCKERFILE.index("\nCOPY") < DOCKERFILE.index("\nCMD")
    assert set(re.findall(r"^ARG (\w+)", DOCKERFILE, re.MULTILINE)) == {"TORCH", "EXTRA"}
    assert set(re.findall(r"(FLUX_DEMO_\w+|HF_HOME)=", DOCKERFILE)) <= NAMES
    assert DOCKERFILE.index("install --yes --no-install-recommends wget") < DOCKERFILE.index("\nUSER user")  # KubeRay's probes call it
    assert 'VOLUME ["/models"' in DOCKERFILE and "never built" in DOCKERFILE
    for service in COMPOSE["services"].values():
        assert set(service["build"]["args"]) <= {"TORCH", "EXTRA"}
        extra = service["build"]["args"].get("EXTRA")
        assert extra is None or (ROOT / f"requirements-{extra}.txt").exists()


def test_the_images_own_example_keeps_what_is_made_and_opens_it_to_nobody():
    (line,) = re.findall(r"^# (docker run .+)$", DOCKERFILE, re.MULTILINE)
    (volumes,) = re.findall(r"^VOLUME (.+)$", DOCKERFILE, re.MULTILINE)
    assert {each.partition(":")[2] for each in re.findall(r"-v (\S+)", line)} == set(json.loads(volumes))
    assert "-p 127.0.0.1:" in line and "-e FLUX_DEMO_PUBLIC=0" in line
    assert "FLUX_DEMO_PUBLIC" not in DOCKERFILE.partition("\nFROM ")[2]  # only who publishes the port knows


class Health(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path in ("/", "/v1/health/live") else 404)
        self.end_headers()

    def log_message(self, *args):
        pass


@pytest.mark.skipif(os.name != "posix", reason="the image's shell is a POSIX one")
@pytest.mark.parametrize("runs", ["page", "service", "nothing"])
def test_the_images_health_check_asks_whatever_runs_where_it_runs(runs):
    check = DOCKERFILE.partition("\nHEALTHCHECK ")[2].partition("CMD ")[2].partition("\nCMD ")[0]
    assert "EXPOSE 7860 8000" in DOCKERFILE and check.count(":8000/") == 1
    with ThreadingHTTPServer(("127.0.0.1", 0), Health) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        ports = {name: server.server_port if name == runs else free_port() for name in ("page", "service")}
        environment = {"PATH": f"{Path(sys.executable).parent}:{os.defpath}", "http_proxy": "http://127.0.0.1:9"}
        environment["GRADIO_SERVER_PORT"] = str(ports["page"])
        done = subprocess.run(
            ["sh", "-c", check.replace(":8000/", f":{ports['service']}/")], env=environment, capture_output=True, timeout=30
        )
        server.shutdown()
    assert done.returncode == (1 if runs == "nothing" else 0)


def test_what_is_left_out_of_the_image_is_not_needed_there():
    left_out = (ROOT / ".dockerignore").read_text("utf-8").split()
    assert not {"app.py", "flux_demo", "assets", "stand_ins", "requirements.txt", "constraints.txt"} & set(left_out)
    assert {".git", ".venv", "outputs"} <= set(left_out)
