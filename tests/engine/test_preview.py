"""The preview shows the right colours and shape and disturbs nothing; latents survive packing and the VAE."""

import numpy as np
import torch
from PIL import Image

from flux_demo.engine.latents import pack, unpack
from flux_demo.engine.preview import estimate, fit_colours
from flux_demo.engine.vae import decode, encode_map
from tests.engine.runs import generate_latents


class Shrinking(torch.nn.Module):
    """A VAE whose colours are known: each of its channels mixes the mean red, green and blue of 8 x 8 pixels."""

    device, dtype = torch.device("cpu"), torch.float32

    class config:
        shift_factor, scaling_factor, latent_channels = 0.1, 0.4, 16

    def __init__(self):
        super().__init__()
        self.mixture = torch.randn((16, 3), generator=torch.Generator().manual_seed(1))

    def encode(self, pixels):
        latents = torch.einsum("ck,bkhw->bchw", self.mixture, torch.nn.functional.avg_pool2d(pixels, 8)) / 0.4 + 0.1
        return type("Encoded", (), {"latent_dist": type("Latents", (), {"mean": latents})()})()


def test_the_preview_has_the_colours_of_the_image():
    vae = Shrinking()
    pixels = torch.zeros(1, 3, 32, 48)
    pixels[:, 0, :16] = 0.5
    pixels[:, 2, :, 24:] = -1
    latents = pack((vae.encode(pixels).latent_dist.mean - 0.1) * 0.4)
    noise = torch.randn_like(latents)
    noisy, sigma = latents + 0.7 * noise, torch.tensor(0.7)
    shown = estimate(noisy, noise, sigma, fit_colours(vae), 48, 32)
    wanted = (torch.nn.functional.avg_pool2d(pixels, 8)[0].permute(1, 2, 0) + 1) * 127.5
    assert shown.shape == (4, 6, 3)
    assert (shown.float() - wanted).abs().max() <= 2


def test_every_step_has_a_small_rgb_preview_of_the_right_shape(pipeline):
    seen = []
    generate_latents(pipeline("text"), "a cube", 96, 64, 1, 3, 3.5, on_step=lambda *step: seen.append(step))
    assert [(done, of) for done, of, _ in seen] == [(1, 3), (2, 3), (3, 3)]
    assert all(preview.mode == "RGB" and preview.size == (12, 8) for _, _, preview in seen)


def test_fitting_leaves_the_global_generator_alone(pipeline):
    torch.manual_seed(4)
    before = torch.random.get_rng_state()
    fit_colours(pipeline("text").shared.vae)
    assert torch.equal(before, torch.random.get_rng_state())


def test_packing_is_undone_by_unpacking():
    latents = torch.randn(1, 16, 4, 6)
    assert pack(latents).shape == (1, 6, 64)
    assert torch.equal(unpack(pack(latents), 48, 32), latents)


def test_images_keep_their_size_through_the_vae(pipeline):
    vae = pipeline("text").shared.vae
    image = Image.fromarray(np.full((32, 48, 3), 128, np.uint8))
    with torch.no_grad():
        latents = encode_map(vae, image, torch.Generator().manual_seed(0))
        assert latents.shape == (1, 4, 4, 6)
        assert decode(vae, latents).size == (48, 32)
