"""How the mini FLUX was made: a renderer of scenes, the training stages, the evaluation. Importing this loads nothing heavy."""
