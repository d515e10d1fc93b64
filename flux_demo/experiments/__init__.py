"""Many images from one request (grid) or from a list (batch). What is finished is in the gallery, and is never generated twice."""
