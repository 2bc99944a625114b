# The web app in a container. Visitors need the password, since a container listens to others:
#   docker build -t lora_gen . && docker run -p 127.0.0.1:7860:7860 -e LORA_GEN_APP_PASSWORD=… lora_gen
FROM python:3.12-slim

RUN useradd --create-home app
WORKDIR /home/app/lora_gen
COPY --chown=app . .
# The CPU build of torch: the embedded models need no accelerator.
RUN pip install --no-cache-dir --extra-index-url https://download.pytorch.org/whl/cpu \
    -c constraints.txt -e ".[app,demo]"
USER app
ENV HF_HUB_OFFLINE=1 OMP_NUM_THREADS=2
EXPOSE 7860
# A Space tells its own name; its pages are shown in a frame of the hub.
CMD ["sh", "-c", "exec python -m app --host 0.0.0.0 --auth visitor ${SPACE_HOST:+--allow-host $SPACE_HOST --embed}"]
