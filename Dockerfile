# The course in a container: PyTorch for CPUs, JupyterLab, a user without rights.
#     docker build --tag tcseg .
#     docker run --publish 8888:8888 tcseg      # prints an address: open it
FROM python:3.11-slim

# What .ci/check-system asks for: OpenCV's two libraries, and git. Versions are Debian's of the day.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends git libgl1 libglib2.0-0 make \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 learner \
    && install --directory --owner=learner /home/learner/tcseg

USER 1000
WORKDIR /home/learner/tcseg
ENV PATH=/home/learner/venv/bin:$PATH \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1

# PyTorch first, in a layer of its own that an edit of the course leaves as it is.
COPY --chown=learner constraints.txt ./
RUN python -m venv /home/learner/venv \
    && python -m pip install --quiet --constraint constraints.txt --index-url https://download.pytorch.org/whl/cpu torch torchvision

COPY --chown=learner . .
RUN python -m pip install --quiet --constraint constraints.txt --editable '.[deploy]'

EXPOSE 8888
CMD ["tcseg", "lab", "--ip=0.0.0.0", "--port=8888", "--no-browser"]
