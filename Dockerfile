# Two stages: the first builds the locked environment with the same script as `make setup`, the second runs it.
FROM python:3.11-slim-bookworm AS build
WORKDIR /opt/adjuvant
COPY pyproject.toml README.md LICENSE ./
COPY requirements ./requirements
COPY scripts ./scripts
COPY adapter ./adapter
COPY inference ./inference
COPY mappings ./mappings
RUN scripts/make-venv .venv requirements/runtime.txt

FROM python:3.11-slim-bookworm
RUN useradd --system --uid 10001 --home-dir /var/lib/adjuvant --create-home adjuvant
COPY --from=build /opt/adjuvant /opt/adjuvant
ENV PATH=/opt/adjuvant/.venv/bin:$PATH PYTHONDONTWRITEBYTECODE=1
WORKDIR /var/lib/adjuvant
USER adjuvant
VOLUME ["/var/lib/adjuvant", "/etc/adjuvant"]
EXPOSE 8600 11112
# alive, so that a service that waits for a peer is not started again and again; /health/ready says whether it works
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8600/health/live', timeout=5)"]
ENTRYPOINT ["adjuvant"]
CMD ["run", "--config", "/etc/adjuvant/site.toml"]
