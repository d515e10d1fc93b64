import numpy as np
import torch
from PIL import Image

from flux_demo.engine.latents import pack, unpack
from flux_demo.engine.preview import estimate
from flux_demo.engine.vae import decode, encode_map
from tests.engine.asking import draw_latents


class Shrinking(torch.nn.Module):
    """A VAE whose colours can be told: each of its channels is a mixture of the mean red, green and blue of 8 x 8 pixels."""

    device, dtype = torch.device("cpu"), torch.float32

    class config:
        shift_factor, scaling_factor, latent_channels = 0.1, 0.4, 16

    def __init__(self):
        super().__init__()
        self.mixture = torch.randn((16, 3), generator=torch.Generator().manual_seed(1))

    def encode(self, pixels):
        latents = torch.einsum("ck,bkhw->bchw", self.mixture, torch.nn.functional.avg_pool2d(pixels, 8)) / 0.4 + 0.1
        return type("Encoded", (), {"latent_dist": type("Latents", (), {"mean": latents})()})()


def test_the_preview_has_the_colours_of_the_picture():
    from flux_demo.engine.preview import fit_colours

    vae = Shrinking()
    picture = torch.zeros(1, 3, 32, 48)
    picture[:, 0, :16] = 0.5
    picture[:, 2, :, 24:] = -1
    latents = pack((vae.encode(picture).latent_dist.mean - 0.1) * 0.4)
    noise = torch.randn_like(latents)
    noisy, sigma = latents + 0.7 * noise, torch.tensor(0.7)
    shown = estimate(noisy, noise, sigma, fit_colours(vae), 48, 32)
    wanted = (torch.nn.functional.avg_pool2d(picture, 8)[0].permute(1, 2, 0) + 1) * 127.5
    assert shown.shape == (4, 6, 3)
    assert (shown.float() - wanted).abs().max() <= 2


def test_every_step_shows_a_small_rgb_picture_of_the_right_shape(flux):
    seen = []
    draw_latents(flux("text"), "a cube", 96, 64, 1, 3, 3.5, on_step=lambda *step: seen.append(step))
    assert [(done, of) for done, of, _ in seen] == [(1, 3), (2, 3), (3, 3)]
    assert all(preview.mode == "RGB" and preview.size == (12, 8) for _, _, preview in seen)


def test_fitting_draws_nothing_from_the_common_generator(flux):
    from flux_demo.engine.preview import fit_colours

    torch.manual_seed(4)
    before = torch.random.get_rng_state()
    fit_colours(flux("text").shared.vae)
    assert torch.equal(before, torch.random.get_rng_state())


def test_packing_is_undone_by_unpacking():
    latents = torch.randn(1, 16, 4, 6)
    assert pack(latents).shape == (1, 6, 64)
    assert torch.equal(unpack(pack(latents), 48, 32), latents)


def test_pictures_keep_their_size_through_the_vae(flux):
    vae = flux("text").shared.vae
    picture = Image.fromarray(np.full((32, 48, 3), 128, np.uint8))
    with torch.no_grad():
        latents = encode_map(vae, picture, torch.Generator().manual_seed(0))
        assert latents.shape == (1, 4, 4, 6)
        assert decode(vae, latents).size == (48, 32)
