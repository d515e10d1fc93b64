# The page in a container: docker build -t flux-demo . ;
# docker run -p 127.0.0.1:7860:7860 -e FLUX_DEMO_PUBLIC=0 -v flux-models:/models -v flux-images:/images flux-demo
# FLUX_DEMO_PUBLIC=0 says that only you reach the page, which is so because the port is published on 127.0.0.1. If you publish it to others, leave it out.
# With an NVIDIA GPU: --build-arg TORCH=cuda, and docker run --gpus all. Another port of the page: -e GRADIO_SERVER_PORT, which the health check reads too.
# With the service on Ray Serve: --build-arg EXTRA=serve, and docker run --health-start-period=20m, because it loads the models first.
# Written line by line and never built where this program was made: there was no Docker there.
FROM python:3.12-slim
ARG TORCH=cpu
ARG EXTRA=

# KubeRay asks each pod of the service with wget whether it is ready, and this base has none.
RUN if [ "$EXTRA" = serve ]; then \
        apt-get update && apt-get install --yes --no-install-recommends wget && rm -rf /var/lib/apt/lists/*; \
    fi
RUN useradd --create-home --uid 1000 user && mkdir /models /images && chown user /models /images
USER user
WORKDIR /home/user/app
ENV PATH=/home/user/.local/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONPATH=/home/user/app \
    HF_HOME=/models \
    FLUX_DEMO_OUTPUTS=/images \
    GRADIO_SERVER_NAME=0.0.0.0

COPY --chown=user requirements.txt requirements-serve.txt constraints.txt ./
# On Linux PyPI's torch is the CUDA build, and a page without a GPU does not need its gigabytes.
RUN if [ "$TORCH" = cpu ]; then \
        pip install --no-cache-dir -c constraints.txt torch --index-url https://download.pytorch.org/whl/cpu; \
    fi \
    && pip install --no-cache-dir -r requirements.txt ${EXTRA:+-r requirements-$EXTRA.txt} -c constraints.txt

COPY --chown=user . .
VOLUME ["/models", "/images"]
EXPOSE 7860 8000
# The page, or the service at its own port; neither through a proxy that the container was given.
HEALTHCHECK --start-period=60s CMD \
    python -c "import urllib.request as u; u.build_opener(u.ProxyHandler({})).open('http://127.0.0.1:${GRADIO_SERVER_PORT:-7860}/')" || \
    python -c "import urllib.request as u; u.build_opener(u.ProxyHandler({})).open('http://127.0.0.1:8000/v1/health/live')" || exit 1
CMD ["python", "app.py"]
