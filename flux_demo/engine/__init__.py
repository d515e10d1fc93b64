"""FLUX as this project runs it: one way from a prompt to an image, for every set of weights. Knows no mode by name.

Read in this order; each file is one thing that FLUX does:

    pipeline.py      one run, from the request's numbers to the image, in numbered steps
    prompts.py       a prompt becomes embeddings
    latents.py       noise and images as the transformer sees them: packed latents and their position ids
    schedule.py      the sigmas of each step
    modulation.py    everything that does not depend on the latents, computed once per image
    denoise.py       the loop
    preview.py       an early look at the image
    vae.py           between images and latents
    load.py          from files to the device
    weights.py       the transformer's weights, one tensor at a time, from every format
    lora.py          merges a control LoRA
    model_cache.py   the models that are in memory
    sizes.py         how many bytes a model's parts take
    memory.py        what fits where: arithmetic only
    placement.py     carries out a memory plan
    current_device.py  the device that new streams and compiled code belong to
    pinning.py       main memory that the device reads directly
    allocators.py    gives memory back
    presets.py       ways of running, as data
    compiled.py      the preset that compiles the transformer's blocks

The models themselves are diffusers' and transformers'. With the preset ``exact`` every image is, bit for bit, the one that the
stock ``FluxPipeline`` and ``FluxControlPipeline`` generate from the same seed.
"""
