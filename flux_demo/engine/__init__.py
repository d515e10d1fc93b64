"""FLUX as this project runs it: one way from a text to a picture, for every set of weights. Knows no mode by name.

Read in this order; each file is one thing that FLUX does:

    picture.py       one run, from the request's numbers to the picture, in numbered steps
    prompts.py       a text becomes what the transformer reads
    latents.py       pictures and noise as the transformer sees them: packed latents and their places
    schedule.py      how much noise is left at each step
    modulation.py    all that does not look at the picture is worked out once
    denoise.py       the loop
    preview.py       what the picture will be, seen early
    pixels.py        between pictures and latents: the VAE
    load.py          from files to the device
    memory.py        what fits where: arithmetic only
    placement.py     the plan carried out
    presets.py       ways of running, as data

The models themselves are diffusers' and transformers'. With the preset ``exact`` every picture is, bit for bit, the one that the
stock ``FluxPipeline`` and ``FluxControlPipeline`` draw from the same seed.
"""
