"""The driver of a test, in a process of its own: ``python drivers.py NAME``.

Prints, as JSON, the trace and the run that its tasks are to be in, and what they returned.
"""

from __future__ import annotations

import faulthandler
import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import tasks

WORDS = ["one", "two"]


def multiprocessing_fork() -> list[int]:
    return _pool("fork")


def multiprocessing_spawn() -> list[int]:
    return _pool("spawn")


def _pool(method: str) -> list[int]:
    import multiprocessing

    with multiprocessing.get_context(method).Pool(2) as pool:
        return pool.map(tasks.ask, WORDS, chunksize=1)


def process_fork() -> list[int]:
    return _process("fork")


def process_spawn() -> list[int]:
    return _process("spawn")


def _process(method: str) -> list[int]:
    import multiprocessing

    tasks.ask("zero")
    child = multiprocessing.get_context(method).Process(target=tasks.ask, args=("one",))
    child.start()
    child.join(60)
    return [child.exitcode or 0]


def futures() -> list[object]:
    from concurrent.futures import ProcessPoolExecutor

    with ProcessPoolExecutor(1) as pool:
        calls = [pool.submit(tasks.ask, "one"), pool.submit(tasks.fail, "two")]
        return [repr(call.exception(60)) for call in calls]


def joblib() -> list[int]:
    from joblib import Parallel, delayed

    return Parallel(n_jobs=2)([delayed(tasks.ask)(word) for word in WORDS])


def joblib_fit() -> list[int]:
    from joblib import Parallel, delayed

    return Parallel(n_jobs=1 + 1)([delayed(tasks.train)(depth) for depth in (1, 2)])


def search() -> list[int]:
    import numpy as np
    from sklearn.model_selection import GridSearchCV
    from sklearn.tree import DecisionTreeClassifier

    search = GridSearchCV(DecisionTreeClassifier(), {"max_depth": [1, 2]}, cv=2, n_jobs=2)
    search.fit(np.array([[0], [1], [2], [3]] * 2), np.array([0, 0, 1, 1] * 2))
    return []


def dask() -> list[int]:
    from distributed import Client, LocalCluster

    with LocalCluster(n_workers=1, threads_per_worker=2, processes=True, dashboard_address=None) as cluster:
        with Client(cluster) as client:
            return client.gather(client.map(tasks.ask, WORDS))


def ray() -> list[int]:
    import ray

    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)

    @ray.remote
    class Asker:
        def ask(self, word: str) -> int:
            return tasks.ask(word)

    try:
        asker = Asker.remote()
        answered = ray.get(asker.ask.remote("one"))
        ray.kill(asker)
        return [answered, ray.get(ray.remote(tasks.ask).remote("two"))]
    finally:
        ray.shutdown()


def spark() -> list[int]:
    from pyspark.sql import SparkSession
    from pyspark.sql.functions import udf
    from pyspark.sql.types import LongType

    builder = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false")
    session = builder.config("spark.sql.shuffle.partitions", "1").getOrCreate()
    try:
        ask = udf(tasks.ask, LongType())
        rows = session.createDataFrame([(word,) for word in WORDS], "word string").repartition(1)
        of_frame = [row[0] for row in rows.select(ask("word")).collect()]
        return of_frame + session.sparkContext.parallelize(["three"], 1).map(tasks.ask).collect()
    finally:
        session.stop()


def spark_plain() -> list[int]:
    """Return the process of an RDD's task; the workers may lack all that is ours."""
    from pyspark.sql import SparkSession

    session = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false").getOrCreate()
    try:
        return session.sparkContext.parallelize([1], 1).map(lambda _: os.getpid()).collect()
    finally:
        session.stop()


def celery() -> list[int]:
    from celery_app import ask

    return [ask.delay(word).get(timeout=60) for word in WORDS]


def main() -> None:
    from mlspan import integrations, tracing

    if os.environ.get("TEST_CONFIGURE"):
        tracing.configure(**json.loads(os.environ["TEST_CONFIGURE"]))
    integrations.autolog(silent=True, log_models=False)
    run_id = os.environ["TEST_RUN"]
    with tracing.session("s-1"), tracing.user("ada"), tracing.tags(team="blue"):
        if sys.argv[1] in {"joblib_fit", "search"}:
            import mlflow

            with mlflow.start_run(run_id=run_id), tracing.span("job"):
                trace_id, result = tracing.current_trace_id(), globals()[sys.argv[1]]()
        else:  # the run is in a process that has MLflow
            with tracing.run(run_id), tracing.span("job"):
                trace_id, result = tracing.current_trace_id(), globals()[sys.argv[1]]()
    tracing.flush()
    print("RESULT", json.dumps({"trace": trace_id, "result": result, "pid": os.getpid()}))


if __name__ == "__main__":
    faulthandler.dump_traceback_later(140, exit=True)  # one that hangs says where
    main()
    faulthandler.cancel_dump_traceback_later()
