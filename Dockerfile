# Edgeloop's Airflow: one image for every part (api-server, scheduler, dag-processor, triggerer, worker).
# The base must be a Debian with Python 3.11, pip and a user `airflow`; the official image is.
ARG BASE_IMAGE=apache/airflow:3.3.2-python3.11
FROM ${BASE_IMAGE}

# Which Debian packages of a scorer image have known vulnerabilities is asked by Debian's own tool.
USER root
RUN apt-get update \
 && apt-get install --yes --no-install-recommends debsecan \
 && rm -rf /var/lib/apt/lists/*

USER airflow
WORKDIR /opt/airflow

# Dependencies first and alone: they change rarely, and an edit of the project must not install them again.
COPY --chown=airflow:0 requirements.txt ./
RUN pip install --no-cache-dir --require-hashes -r requirements.txt

# Installed rather than put on PYTHONPATH: only an installed distribution's entry points bring connection forms.
COPY --chown=airflow:0 pyproject.toml ./
COPY --chown=airflow:0 include ./include
COPY --chown=airflow:0 plugins ./plugins
RUN pip install --no-cache-dir --no-deps . \
 && python -c "import edgeloop, edgeloop_airflow"

COPY --chown=airflow:0 dags ./dags

# Mount points of volumes: a volume takes the ownership of the folder that the image has there.
RUN mkdir -p auth logs state && chmod 0700 auth

ENV AIRFLOW_HOME=/opt/airflow \
    EDGELOOP_PIPELINES=/opt/airflow/include/pipelines \
    EDGELOOP_LAST_VALID=/opt/airflow/state/last_valid
