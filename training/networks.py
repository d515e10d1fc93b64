"""The mini's networks: FLUX's own classes in small sizes. The configs in `assets/mini` hold the same numbers."""

from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxTransformer2DModel
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    DepthAnythingConfig,
    DepthAnythingForDepthEstimation,
    Dinov2Config,
    T5Config,
    T5EncoderModel,
)

TEXT_TOKENS = 64  # T5; FLUX.1-dev has 512
LATENT_CHANNELS = 16
WIDTH = 128  # of the text encoders

VAE = {
    "block_out_channels": (16, 32, 64, 96),
    "layers_per_block": 1,
    "norm_num_groups": 8,
    "latent_channels": LATENT_CHANNELS,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "mid_block_add_attention": False,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
    "sample_size": 256,
}
TRANSFORMER = {
    "patch_size": 1,
    "in_channels": 4 * LATENT_CHANNELS,
    "out_channels": 4 * LATENT_CHANNELS,
    "num_layers": 2,
    "num_single_layers": 8,
    "num_attention_heads": 6,
    "attention_head_dim": 32,
    "axes_dims_rope": (4, 14, 14),
    "joint_attention_dim": WIDTH,
    "pooled_projection_dim": WIDTH,
    "guidance_embeds": True,
}
# FLUX.1-dev's own scheduler_config.json.
SCHEDULER = {
    "num_train_timesteps": 1000,
    "shift": 3.0,
    "use_dynamic_shifting": True,
    "base_shift": 0.5,
    "max_shift": 1.15,
    "base_image_seq_len": 256,
    "max_image_seq_len": 4096,
}


def vae() -> AutoencoderKL:
    return AutoencoderKL(**VAE)


def transformer(*, control: bool) -> FluxTransformer2DModel:
    """With `control` it has twice the input channels, like FLUX.1-Canny-dev and FLUX.1-Depth-dev."""
    return FluxTransformer2DModel(**TRANSFORMER | {"in_channels": TRANSFORMER["in_channels"] * (2 if control else 1)})


def scheduler() -> FlowMatchEulerDiscreteScheduler:
    return FlowMatchEulerDiscreteScheduler(**SCHEDULER)


def clip(vocab_size: int) -> CLIPTextModel:
    """The last two tokens of the vocabulary are the start and the end of a text."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=vocab_size,
            hidden_size=WIDTH,
            intermediate_size=2 * WIDTH,
            projection_dim=WIDTH,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=77,
            bos_token_id=vocab_size - 2,
            eos_token_id=vocab_size - 1,
            pad_token_id=vocab_size - 1,
        )
    )


def t5(vocab_size: int) -> T5EncoderModel:
    return T5EncoderModel(
        T5Config(
            vocab_size=vocab_size,
            d_model=WIDTH,
            d_kv=32,
            d_ff=2 * WIDTH,
            num_layers=3,
            num_heads=4,
            dropout_rate=0.0,
            feed_forward_proj="gated-gelu",
            is_encoder_decoder=False,
            use_cache=False,
        )
    )


def depth_estimator() -> DepthAnythingForDepthEstimation:
    backbone = Dinov2Config(
        image_size=196,
        patch_size=14,
        hidden_size=144,
        num_hidden_layers=6,
        num_attention_heads=6,
        mlp_ratio=2,
        out_features=["stage1", "stage3", "stage5", "stage6"],
        apply_layernorm=True,
        reshape_hidden_states=False,
    )
    return DepthAnythingForDepthEstimation(
        DepthAnythingConfig(
            backbone_config=backbone,
            reassemble_hidden_size=144,
            patch_size=14,
            neck_hidden_sizes=[32, 48, 64, 96],
            reassemble_factors=[4, 2, 1, 0.5],
            fusion_hidden_size=32,
            head_hidden_size=16,
        )
    )
