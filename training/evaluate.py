"""The mini's figures, on held-out scenes: `python -m training.evaluate`. Prints the table that stands in the model card.

It draws with the stock diffusers pipelines from `assets/mini`, as anyone would. The judge of colours and shapes is trained by
`train.py judge` on rendered scenes only, and its own score on held-out ones is the first line.
"""

import argparse
import random
import re
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers import FluxControlPipeline, FluxPipeline, FluxTransformer2DModel
from PIL import Image
from transformers import DepthAnythingForDepthEstimation, DPTImageProcessor

from flux_demo import mini_vocabulary as vocabulary
from training import captions, data, judges, maps, measures, scenes, sheets
from training.train import DEFAULT_WORK

WEIGHTS = Path(__file__).parents[1] / "assets" / "mini"
STEPS, GUIDANCE = 20, {"text": 3.5, "canny": 30.0, "depth": 10.0}
BATCH = 8
BEGIN, END = "<!-- figures -->", "<!-- end of figures -->"
SQUARE = (256, 256)


class Mini:
    """The stock pipelines over the shipped weights."""

    def __init__(self, folder: Path, device: str):
        self.text = FluxPipeline.from_pretrained(folder, dtype=torch.float32).to(device)
        self.text.set_progress_bar_config(disable=True)
        self.folder, self.device = folder, device
        self.processor = DPTImageProcessor.from_pretrained(folder / "depth_estimator")
        self.estimator = DepthAnythingForDepthEstimation.from_pretrained(folder / "depth_estimator", dtype=torch.float32).eval()

    def control(self, mode: str) -> FluxControlPipeline:
        parts = {
            name: part for name, part in self.text.components.items() if name not in ("transformer", "image_encoder", "feature_extractor")
        }
        transformer = FluxTransformer2DModel.from_pretrained(self.folder / f"transformer_{mode}", dtype=torch.float32).to(self.device)
        pipe = FluxControlPipeline(transformer=transformer, **parts)
        pipe.set_progress_bar_config(disable=True)
        return pipe

    def draw(self, pipe, prompts: Sequence[str], guidance: float, maps_: Sequence[Image.Image] | None = None) -> list[np.ndarray]:
        """(H, W, 3) uint8 for each prompt, 256x256 without maps; seeds are the prompts' places in the list."""
        drawn = []
        for at in range(0, len(prompts), BATCH):
            part = list(prompts[at : at + BATCH])
            generators = [torch.Generator("cpu").manual_seed(at + i) for i in range(len(part))]
            more = {} if maps_ is None else {"control_image": list(maps_[at : at + BATCH])}
            pictures = pipe(
                prompt=part,
                width=256,
                height=256,
                num_inference_steps=STEPS,
                guidance_scale=guidance,
                generator=generators,
                max_sequence_length=64,
                output_type="np",
                **more,
            ).images
            drawn += list((pictures * 255).round().astype(np.uint8))
        return drawn

    @torch.inference_mode()
    def nearness(self, picture: np.ndarray) -> np.ndarray:
        """(H, W) float: what the estimator sees in (H, W, 3) uint8."""
        shape = [picture.shape[:2]]
        said = self.estimator(**self.processor(images=Image.fromarray(picture), return_tensors="pt"))
        return self.processor.post_process_depth_estimation(said, target_sizes=shape)[0]["predicted_depth"].numpy()


def vae_figures(mini: Mini, count: int) -> dict[str, float]:
    four = data.rendered(range(data.HELD_OUT, data.HELD_OUT + count), SQUARE)
    edge_maps = np.stack([maps.edges(one[..., :3]) for one in four])
    kinds = {"scenes": four[..., :3], "edge maps": edge_maps, "depth maps": np.repeat(four[..., 3:], 3, axis=3)}
    figures = {}
    with torch.inference_mode():
        for kind, pictures in kinds.items():
            back = []
            for at in range(0, count, BATCH):
                batch = data.as_pictures(pictures[at : at + BATCH]).to(mini.device)
                back.append(sheets.as_bytes(mini.text.vae.decode(mini.text.vae.encode(batch).latent_dist.mode()).sample))
            figures[f"VAE, {kind}, PSNR (dB)"] = float(np.mean([measures.psnr(a, b) for a, b in zip(pictures, np.concatenate(back))]))
    return figures


def judge_figures(judge: judges.Judge, count: int) -> dict[str, float]:
    """The judge's own answers on rendered scenes: its ceiling."""
    chosen = held_out(0, count)
    said = judged(judge, list(data.rendered(range(data.HELD_OUT, data.HELD_OUT + count), SQUARE)[..., :3]))
    truth = judges.answers(chosen)
    colour = np.mean([(said[n] == truth[n].numpy()).mean() for n in ("left_colour", "right_colour")])
    shape = np.mean([(said[n] == truth[n].numpy()).mean() for n in ("left_shape", "right_shape")])
    return {"the judge itself, colours (%)": 100 * float(colour), "the judge itself, shapes (%)": 100 * float(shape)}


def text_figures(mini: Mini, judge: judges.Judge, count: int) -> dict[str, float]:
    draw = random.Random("evaluate text")
    one = [scenes.sample(data.HELD_OUT + 1000 + i, *SQUARE, count=1) for i in range(count)]
    said = judged(judge, mini.draw(mini.text, [captions.caption(scene, draw).text for scene in one], GUIDANCE["text"]))
    truth = {name: values.numpy() for name, values in judges.answers(one).items()}
    figures = {
        "one object, colour right (%)": 100 * float((said["left_colour"] == truth["left_colour"]).mean()),
        "one object, shape right (%)": 100 * float((said["left_shape"] == truth["left_shape"]).mean()),
    }
    two, prompts = [], []
    for i in range(count):
        scene = scenes.sample(data.HELD_OUT + 2000 + i, *SQUARE, count=2)
        first, second = (f"a {thing.colour} {thing.shape}".replace("a o", "an o") for thing in scene.things)
        floor, light = vocabulary.FLOORS[scene.floor][0], vocabulary.LIGHTS[scene.light][0]
        told = (first, "to the left of", second) if i % 2 else (second, "to the right of", first)
        two.append(scene)
        prompts.append(" ".join((*told, floor, light)))
    said = judged(judge, mini.draw(mini.text, prompts, GUIDANCE["text"]))
    given, found = colours_at_ends(two, said)
    figures["two objects, both colours there (%)"] = in_any_order(given, found)
    figures["two objects, left and right as told (%)"] = 100 * float((given == found).all(0).mean())
    return figures


def colours_at_ends(chosen: list[scenes.Scene], said: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """(2, N) numbers of colours at the left and the right end: of the scenes, and as the judge sees them in the pictures."""
    truth = {name: values.numpy() for name, values in judges.answers(chosen).items()}
    given, found = (np.stack([answer["left_colour"], answer["right_colour"]]) for answer in (truth, said))
    return given, found


def in_any_order(given: np.ndarray, found: np.ndarray) -> float:
    """In how many columns the two hold the same numbers (%)."""
    return 100 * float((np.sort(given, 0) == np.sort(found, 0)).all(0).mean())


def colours_told(judge: judges.Judge, drawn: list[np.ndarray], first: int) -> float:
    """In how many pictures of one or two objects under a map (%) both ends have the colours that the caption names, in whatever order."""
    chosen = held_out(first, len(drawn))
    few = [at for at, scene in enumerate(chosen) if len(scene.things) <= 2]
    return in_any_order(*colours_at_ends([chosen[at] for at in few], judged(judge, [drawn[at] for at in few])))


def canny_figures(mini: Mini, judge: judges.Judge, count: int) -> dict[str, float]:
    prompts, four = controls(count, 3000)
    edge_maps = [maps.edges(one[..., :3]) for one in four]
    drawn = mini.draw(mini.control("canny"), prompts, GUIDANCE["canny"], [Image.fromarray(one) for one in edge_maps])
    found = [maps.edges(one)[..., 0] for one in drawn]
    return {
        "canny, F1 of edges with its map": float(np.mean([measures.edge_f1(m[..., 0], f) for m, f in zip(edge_maps, found)])),
        "canny, F1 with another's map": float(
            np.mean([measures.edge_f1(m[..., 0], f) for m, f in zip(edge_maps[1:] + edge_maps[:1], found)])
        ),
        "canny, one or two objects, colours there (%)": colours_told(judge, drawn, 3000),
    }


def depth_figures(mini: Mini, judge: judges.Judge, count: int) -> dict[str, float]:
    prompts, four = controls(count, 4000)
    given = [one[..., 3] for one in four]
    estimated = [mini.nearness(one[..., :3]) for one in four]
    drawn = mini.draw(
        mini.control("depth"), prompts, GUIDANCE["depth"], [Image.fromarray(np.repeat(one[..., None], 3, 2)) for one in given]
    )
    found = [mini.nearness(one) for one in drawn]
    return {
        "depth estimator with the truth, r": float(np.mean([measures.depth_correlation(a, b) for a, b in zip(given, estimated)])),
        "depth, r with its map": float(np.mean([measures.depth_correlation(a, b) for a, b in zip(given, found)])),
        "depth, r with another's map": float(np.mean([measures.depth_correlation(a, b) for a, b in zip(given[1:] + given[:1], found)])),
        "depth, one or two objects, colours there (%)": colours_told(judge, drawn, 4000),
    }


def speed_figures(mini: Mini) -> dict[str, float]:
    mini.draw(mini.text, ["a red sphere"], GUIDANCE["text"])
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        mini.draw(mini.text, ["a red sphere"], GUIDANCE["text"])
        seconds.append(time.perf_counter() - started)
    return {f"seconds for 256x256, {STEPS} steps, {torch.get_num_threads()} threads": min(seconds)}


def controls(count: int, first: int) -> tuple[list[str], np.ndarray]:
    """Captions and (count, 256, 256, 4) bytes of held-out scenes."""
    draw = random.Random(f"evaluate {first}")
    seeds = range(data.HELD_OUT + first, data.HELD_OUT + first + count)
    return [captions.caption(scene, draw).text for scene in held_out(first, count)], data.rendered(seeds, SQUARE)


def held_out(first: int, count: int) -> list[scenes.Scene]:
    """Scenes that are never trained on."""
    return [scenes.sample(seed, *SQUARE) for seed in range(data.HELD_OUT + first, data.HELD_OUT + first + count)]


@torch.inference_mode()
def judged(judge: judges.Judge, pictures: list[np.ndarray]) -> dict[str, np.ndarray]:
    said = judge(data.as_pictures(np.stack(pictures)))
    return {name: logits.argmax(1).numpy() for name, logits in said.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    parser.add_argument("--work", type=Path, default=DEFAULT_WORK, help="where train.py left judge.pt")
    parser.add_argument("--count", type=int, default=64, help="pictures for each figure")
    parser.add_argument("--write", action="store_true", help="put the table into the model card")
    arguments = parser.parse_args()
    judge = judges.Judge().eval()
    judge.load_state_dict(torch.load(arguments.work / "judge.pt", map_location="cpu", weights_only=True)["averaged"])
    mini = Mini(arguments.weights, "cuda" if torch.cuda.is_available() else "cpu")
    lines = [f"| figure ({arguments.count} pictures each) | measured |", "| --- | --- |"]
    parts = (
        lambda: judge_figures(judge, arguments.count),
        lambda: vae_figures(mini, arguments.count),
        lambda: speed_figures(mini),
        lambda: text_figures(mini, judge, arguments.count),
        lambda: canny_figures(mini, judge, arguments.count),
        lambda: depth_figures(mini, judge, arguments.count),
    )
    for part in parts:
        for name, value in part().items():
            lines.append(f"| {name} | {value:.1f} |" if abs(value) >= 3 else f"| {name} | {value:.2f} |")
            print(lines[-1], flush=True)
    if arguments.write:
        card = arguments.weights / "README.md"
        text = card.read_text(encoding="utf-8")
        table = "\n".join(lines)
        card.write_text(re.sub(f"{BEGIN}.*{END}", f"{BEGIN}\n{table}\n{END}", text, flags=re.DOTALL), encoding="utf-8")


if __name__ == "__main__":
    main()
