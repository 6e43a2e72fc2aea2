"""The metrics of one process, and of several that prometheus_client sums by its files."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.api.metrics import Metrics
from service.schema.result import BatchResult
from service.settings import METRICS_FOLDER_VARIABLE

COUNT = """
import sys
from tests.api.test_metrics import count
count(int(sys.argv[1]))
print("counted", flush=True)
sys.stdin.read()
"""


def result(examples: int) -> BatchResult:
    return BatchResult(0.5, 1.0, 2.0, examples, 1, 2, {"loss": np.zeros(examples)})


def count(times: int) -> Metrics:
    """New metrics, in which each kind is counted this number of times."""
    metrics = Metrics("cpu")
    for _ in range(times):
        metrics.count_request("POST", "/loss", 200, 0.2)
        metrics.count_phases({"decode": 0.02})
        metrics.count(result(10))
        metrics.count_retry()
    metrics.set_held(times, 100 * times)
    metrics.set_configs(times)
    return metrics


def values(exposition: bytes) -> dict[str, float]:
    """The value of each sample by name and labels, without buckets and creation times."""
    samples = {}
    for family in text_string_to_metric_families(exposition.decode()):
        for sample in family.samples:
            if not sample.name.endswith(("_bucket", "_created")):
                labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
                samples[f"{sample.name}{{{labels}}}"] = sample.value
    return samples


def expected(times: int, held: int, configs: int) -> dict[str, float]:
    return {
        "focal_loss_requests_total{method=POST,route=/loss,status=200}": times,
        "focal_loss_request_duration_seconds_count{method=POST,route=/loss}": times,
        "focal_loss_request_duration_seconds_sum{method=POST,route=/loss}": 0.2 * times,
        "focal_loss_phase_duration_seconds_count{phase=decode}": times,
        "focal_loss_phase_duration_seconds_sum{phase=decode}": 0.02 * times,
        "focal_loss_examples_total{kind=counted}": 7 * times,
        "focal_loss_examples_total{kind=ignored}": times,
        "focal_loss_examples_total{kind=excluded}": 2 * times,
        "focal_loss_batches_total{}": times,
        "focal_loss_requests_held{}": held,
        "focal_loss_request_bytes_held{}": 100 * held,
        "focal_loss_questions_held{}": 0,
        "focal_loss_configs_held{}": configs,
        "focal_loss_out_of_memory_retries{}": times,
        "focal_loss_info{device=cpu,version=0.1.0}": 1,
    }


def test_one_process() -> None:
    assert values(count(3).exposition()) == pytest.approx(expected(3, held=3, configs=3))


@pytest.mark.slow
def test_several_processes_are_summed_without_the_gauges_of_killed_ones(tmp_path: Path) -> None:
    environment = os.environ | {METRICS_FOLDER_VARIABLE: str(tmp_path)}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", COUNT, str(times)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for times in (2, 5)
    ]
    show = "import sys; from service.api.metrics import Metrics; sys.stdout.write(Metrics('cpu').exposition().decode())"

    def exposition() -> bytes:
        return subprocess.run([sys.executable, "-c", show], env=environment, capture_output=True, check=True).stdout

    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "counted\n"
        assert values(exposition()) == pytest.approx(expected(7, held=7, configs=5))
        processes[1].kill()
        processes[1].wait()
        assert values(exposition()) == pytest.approx(expected(7, held=2, configs=2))
    finally:
        for process in processes:
            process.kill()
            process.communicate()
