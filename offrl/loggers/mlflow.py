"""MLflow, with a folder as its store by default."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from offrl.loggers.interface import RunInfo, Sink


@dataclass(frozen=True)
class MLflow:
    package: ClassVar[str] = "mlflow"
    uri: str  # of the tracking store, such as a folder, a database or a server
    experiment: str

    def open(self, run: RunInfo) -> Sink:
        return _Sink(self, run)


class _Sink:
    def __init__(self, settings: MLflow, run: RunInfo) -> None:
        # MLflow prefers a database now, but only folders let many processes and machines write
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        from mlflow.entities import Experiment
        from mlflow.tracking import MlflowClient

        self._client = MlflowClient(settings.uri)
        found: Experiment | None = self._client.get_experiment_by_name(settings.experiment)
        e = found.experiment_id if found else self._client.create_experiment(settings.experiment)
        before = self._client.search_runs([e], f"tags.run_id = '{run.run_id}'")
        tags = {"run_id": run.run_id, "mlflow.runName": run.name}
        self._id = (before[0] if before else self._client.create_run(e, tags=tags)).info.run_id
        if not before:
            for key, value in run.config.items():
                self._client.log_param(self._id, key, value)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._client.log_metric(self._id, name, value, step=step)

    def close(self) -> None:
        self._client.set_terminated(self._id)
