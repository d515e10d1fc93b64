"""The mini's figures on held-out scenes: `python -m training.evaluate`. Prints the table that stands in the model card.

It generates with the stock diffusers pipelines from `assets/mini`, as anyone would. The judge of colours and shapes is trained by the
stage `judge` on renders only; the first rows are its own score on held-out renders. Silhouettes need no judge: see silhouettes.py.
"""

import argparse
import random
import re
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers import FluxControlPipeline, FluxPipeline, FluxTransformer2DModel
from PIL import Image
from transformers import DepthAnythingForDepthEstimation, DPTImageProcessor

from flux_demo import mini_vocabulary as vocabulary
from training import Refused, captions, data, judges, maps, measures, scenes, sheets, silhouettes
from training.scenes import SQUARE
from training.train import ASSETS, DEFAULT_WORK, positive

STEPS, GUIDANCE = 20, {"text": 3.5, "canny": 30.0, "depth": 10.0}
BATCH = 8
BEGIN, END = "<!-- figures -->", "<!-- end of figures -->"

Figures = dict[str, float]


class Mini:
    """The stock pipelines with the shipped weights."""

    def __init__(self, folder: Path, device: str):
        self.text = FluxPipeline.from_pretrained(folder, dtype=torch.float32).to(device)
        self.text.set_progress_bar_config(disable=True)
        self.folder, self.device = folder, device
        self.processor = DPTImageProcessor.from_pretrained(folder / "depth_estimator")
        self.estimator = DepthAnythingForDepthEstimation.from_pretrained(folder / "depth_estimator", dtype=torch.float32).eval()

    def control(self, mode: str) -> FluxControlPipeline:
        not_taken = ("transformer", "image_encoder", "feature_extractor")
        components = {name: component for name, component in self.text.components.items() if name not in not_taken}
        transformer = FluxTransformer2DModel.from_pretrained(self.folder / f"transformer_{mode}", dtype=torch.float32).to(self.device)
        pipe = FluxControlPipeline(transformer=transformer, **components)
        pipe.set_progress_bar_config(disable=True)
        return pipe

    def generate(self, pipe, prompts: Sequence[str], guidance: float, control: Sequence[Image.Image] | None = None) -> list[np.ndarray]:
        """A 256x256 image, (H, W, 3) uint8, for each prompt and its map, if maps are given. Seeds count from 0."""
        generated = []
        for start in range(0, len(prompts), BATCH):
            batch = list(prompts[start : start + BATCH])
            generators = [torch.Generator("cpu").manual_seed(start + i) for i in range(len(batch))]
            more = {} if control is None else {"control_image": list(control[start : start + BATCH])}
            images = pipe(
                prompt=batch,
                width=SQUARE[0],
                height=SQUARE[1],
                num_inference_steps=STEPS,
                guidance_scale=guidance,
                generator=generators,
                max_sequence_length=64,
                output_type="np",
                **more,
            ).images
            generated += list((images * 255).round().astype(np.uint8))
        return generated

    @torch.inference_mode()
    def nearness(self, image: np.ndarray) -> np.ndarray:
        """(H, W) float: the depth estimator's map of an (H, W, 3) uint8 image."""
        output = self.estimator(**self.processor(images=Image.fromarray(image), return_tensors="pt"))
        return self.processor.post_process_depth_estimation(output, target_sizes=[image.shape[:2]])[0]["predicted_depth"].numpy()


def vae_figures(mini: Mini, count: int) -> Figures:
    rgbd = data.rendered(range(data.HELD_OUT, data.HELD_OUT + count), SQUARE)
    edge_maps = np.stack([maps.edges(one[..., :3]) for one in rgbd])
    kinds = {"scenes": rgbd[..., :3], "edge maps": edge_maps, "depth maps": np.repeat(rgbd[..., 3:], 3, axis=3)}
    figures = {}
    with torch.inference_mode():
        for kind, images in kinds.items():
            decoded = []
            for start in range(0, count, BATCH):
                batch = data.as_images(images[start : start + BATCH]).to(mini.device)
                decoded.append(sheets.as_bytes(mini.text.vae.decode(mini.text.vae.encode(batch).latent_dist.mode()).sample))
            figures[f"VAE, {kind}, PSNR (dB)"] = _mean(measures.psnr(a, b) for a, b in zip(images, np.concatenate(decoded)))
    return figures


def judge_figures(judge: judges.Judge, count: int) -> Figures:
    """How often the judge is right about renders: what can be measured with it goes no higher."""
    found = judged(judge, list(data.rendered(range(data.HELD_OUT, data.HELD_OUT + count), SQUARE)[..., :3]))
    truth = true_answers(held_out(0, count))
    colour = _mean((found[name] == truth[name]).mean() for name in ("left_colour", "right_colour"))
    shape = _mean((found[name] == truth[name]).mean() for name in ("left_shape", "right_shape"))
    each = f"{2 * count} answers (%)"  # about the left end and the right
    return {f"the judge itself, colours, {each}": 100 * colour, f"the judge itself, shapes, {each}": 100 * shape}


def text_figures(mini: Mini, judge: judges.Judge, count: int) -> Figures:
    rng = random.Random("evaluate text")
    one = [scenes.sample(data.HELD_OUT + 1000 + i, *SQUARE, count=1) for i in range(count)]
    found = judged(judge, mini.generate(mini.text, [captions.caption(scene, rng).text for scene in one], GUIDANCE["text"]))
    truth = true_answers(one)
    figures = {
        "one object, colour right (%)": 100 * _mean(found["left_colour"] == truth["left_colour"]),
        "one object, shape right (%)": 100 * _mean(found["left_shape"] == truth["left_shape"]),
    }
    two = [scenes.sample(data.HELD_OUT + 2000 + i, *SQUARE, count=2) for i in range(count)]
    asked, seen = colours_at_ends(two, judged(judge, mini.generate(mini.text, pairs(two, ordered=True), GUIDANCE["text"])))
    figures["two objects, both colours there (%)"] = same_in_any_order(asked, seen)
    figures["two objects, left and right as told (%)"] = 100 * _mean((asked == seen).all(0))
    found = judged(judge, mini.generate(mini.text, pairs(two, ordered=False), GUIDANCE["text"]))
    figures["two objects in no order, both colours there (%)"] = same_in_any_order(*colours_at_ends(two, found))
    return figures


def silhouette_figures(mini: Mini, count: int) -> Figures:
    """By outlines alone: shapes and single objects against each background, then each shape against all of them."""
    figures = {}
    by_shape, dents = ({shape: [] for shape in scenes.SHAPES} for _ in range(2))
    for name, background in silhouettes.BACKGROUNDS.items():
        asked = silhouettes.requests(background, count)
        prompts = [f"{noun_phrase(colour, shape)} {setting(background.floor, background.light)}" for shape, colour in asked]
        found = [silhouettes.objects(image, background) for image in mini.generate(mini.text, prompts, GUIDANCE["text"])]
        fits = [bool(masks) and silhouettes.fits(masks[0], shape) for masks, (shape, _) in zip(found, asked)]
        for fit, masks, (shape, _) in zip(fits, found, asked):
            by_shape[shape].append(fit)
            dents[shape].append(silhouettes.dent(masks[0], shape) if masks else np.inf)
        figures[f"{name}, outline fits the shape (%)"] = 100 * _mean(fits)
        figures[f"{name}, one object alone (%)"] = 100 * _mean(len(masks) == 1 for masks in found)
    figures |= {
        f"{shape}s, outline fits, all three backgrounds, {len(fits)} images (%)": 100 * _mean(fits) for shape, fits in by_shape.items()
    }
    return figures | {f"{shape}s, deepest dent in the outline, median (% of the size)": 100 * np.median(dents[shape]) for shape in dents}


def canny_figures(mini: Mini, judge: judges.Judge, count: int) -> Figures:
    prompts, rgbd = control_inputs(count, 3000)
    given = [maps.edges(one[..., :3]) for one in rgbd]
    generated = mini.generate(mini.control("canny"), prompts, GUIDANCE["canny"], [Image.fromarray(one) for one in given])
    found = [maps.edges(one)[..., 0] for one in generated]
    return {
        "canny, F1 of edges with its map": _mean(measures.edge_f1(a[..., 0], b) for a, b in zip(given, found)),
        "canny, F1 with another's map": _mean(measures.edge_f1(a[..., 0], b) for a, b in zip(given[1:] + given[:1], found)),
    } | colours_kept("canny", judge, generated, 3000)


def depth_figures(mini: Mini, judge: judges.Judge, count: int) -> Figures:
    prompts, rgbd = control_inputs(count, 4000)
    given = [one[..., 3] for one in rgbd]
    estimated = [mini.nearness(one[..., :3]) for one in rgbd]
    depth_maps = [Image.fromarray(np.repeat(one[..., None], 3, 2)) for one in given]
    generated = mini.generate(mini.control("depth"), prompts, GUIDANCE["depth"], depth_maps)
    found = [mini.nearness(one) for one in generated]
    return {
        "depth estimator with the truth, r": _mean(measures.depth_correlation(a, b) for a, b in zip(given, estimated)),
        "depth, r with its map": _mean(measures.depth_correlation(a, b) for a, b in zip(given, found)),
        "depth, r with another's map": _mean(measures.depth_correlation(a, b) for a, b in zip(given[1:] + given[:1], found)),
    } | colours_kept("depth", judge, generated, 4000)


def speed_figures(mini: Mini) -> Figures:
    mini.generate(mini.text, ["a red sphere"], GUIDANCE["text"])
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        mini.generate(mini.text, ["a red sphere"], GUIDANCE["text"])
        seconds.append(time.perf_counter() - started)
    device = torch.cuda.get_device_name() if mini.device == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    return {f"seconds for an image of 256x256, the fastest of {len(seconds)}, {STEPS} steps, {device}": min(seconds)}


def pairs(two: list[scenes.Scene], ordered: bool) -> list[str]:
    """Prompts for scenes of two objects: to the left or right of each other, or else "and" and "next to" in turn."""
    prompts = []
    for i, scene in enumerate(two):
        first, second = (noun_phrase(each.colour, each.shape) for each in scene.objects)
        if ordered:
            named = (first, "to the left of", second) if i % 2 else (second, "to the right of", first)
        else:
            named = (first, "and" if i % 2 else "next to", second)
        prompts.append(" ".join((*named, setting(scene.floor, scene.light))))
    return prompts


def noun_phrase(colour: str, shape: str) -> str:
    return f"{'an' if colour[0] in 'aeiou' else 'a'} {colour} {shape}"


def setting(floor: str, light: str) -> str:
    return f"{vocabulary.FLOORS[floor][0]} {vocabulary.LIGHTS[light][0]}"


def control_inputs(count: int, first: int) -> tuple[list[str], np.ndarray]:
    """Captions of held-out scenes and their rgbd (count, 256, 256, 4)."""
    rng = random.Random(f"evaluate {first}")
    seeds = range(data.HELD_OUT + first, data.HELD_OUT + first + count)
    return [captions.caption(scene, rng).text for scene in held_out(first, count)], data.rendered(seeds, SQUARE)


def held_out(first: int, count: int) -> list[scenes.Scene]:
    """Scenes that are never trained on."""
    return [scenes.sample(seed, *SQUARE) for seed in range(data.HELD_OUT + first, data.HELD_OUT + first + count)]


@torch.inference_mode()
def judged(judge: judges.Judge, images: list[np.ndarray]) -> dict[str, np.ndarray]:
    """The judge's answers about images, by question."""
    return {name: logits.argmax(1).numpy() for name, logits in judge(data.as_images(np.stack(images))).items()}


def true_answers(chosen: list[scenes.Scene]) -> dict[str, np.ndarray]:
    return {name: values.numpy() for name, values in judges.answers(chosen).items()}


def colours_at_ends(chosen: list[scenes.Scene], found: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The colours at the left and the right end as numbers (2, N): those of the scenes, and those that the judge sees in the images."""
    asked, seen = (np.stack([answers["left_colour"], answers["right_colour"]]) for answers in (true_answers(chosen), found))
    return asked, seen


def same_in_any_order(asked: np.ndarray, seen: np.ndarray) -> float:
    """The share of columns in which both have the same numbers (%)."""
    return 100 * _mean((np.sort(asked, 0) == np.sort(seen, 0)).all(0))


def colours_kept(mode: str, judge: judges.Judge, generated: list[np.ndarray], first: int) -> Figures:
    """The share of images from a map of one or two objects in which the ends have the caption's colours, in any order."""
    chosen = held_out(first, len(generated))
    few = [i for i, scene in enumerate(chosen) if len(scene.objects) <= 2]
    if not few:
        return {}
    asked, seen = colours_at_ends([chosen[i] for i in few], judged(judge, [generated[i] for i in few]))
    return {f"{mode}, one or two objects, colours there, {len(few)} images (%)": same_in_any_order(asked, seen)}


def _mean(values) -> float:
    return float(np.mean(list(values)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, default=ASSETS)
    parser.add_argument("--work", type=Path, default=DEFAULT_WORK, help="where training.train left judge.pt")
    parser.add_argument("--count", type=positive(int), default=64, help="images for each figure")
    parser.add_argument("--write", action="store_true", help="put the table into the model card")
    arguments = parser.parse_args()
    if not (arguments.weights / "model_index.json").is_file():
        parser.error(f"There are no weights in {arguments.weights}. Give the folder of a mini.")
    try:
        judge = judges.load(arguments.work)
    except Refused as error:
        sys.exit(str(error))
    mini, count = Mini(arguments.weights, "cuda" if torch.cuda.is_available() else "cpu"), arguments.count
    measurements: tuple[Callable[[], Figures], ...] = (
        lambda: judge_figures(judge, count),
        lambda: vae_figures(mini, count),
        lambda: speed_figures(mini),
        lambda: text_figures(mini, judge, count),
        lambda: silhouette_figures(mini, count),
        lambda: canny_figures(mini, judge, count),
        lambda: depth_figures(mini, judge, count),
    )
    lines = [f"| figure ({count} images each, unless it says otherwise) | measured |", "| --- | --- |"]
    for measure in measurements:
        for name, value in measure().items():
            lines.append(f"| {name} | {value:.1f} |" if abs(value) >= 3 or name.endswith("(%)") else f"| {name} | {value:.2f} |")
            print(lines[-1], flush=True)
    if arguments.write:
        write(arguments.weights / "README.md", "\n".join(lines))


def write(card: Path, table: str) -> None:
    """Replace the table of figures in a model card."""
    text = card.read_text(encoding="utf-8")
    card.write_text(re.sub(f"{BEGIN}.*{END}", lambda _: f"{BEGIN}\n{table}\n{END}", text, flags=re.DOTALL), encoding="utf-8")


if __name__ == "__main__":
    main()
