from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from flows.driver import actors
from flows.driver.actors import Generator, Preprocessor
from pinco.catalog.ids.job import Job
from pinco.generation.faults import DeviceMemoryError
from pinco.generation.model import Model
from pinco.generation.settings import ModelSettings
from pinco.generation.take import RunSpec, Take
from pinco.pipelines.decoding import Latents
from preprocessing.arrays import U8


def test_what_one_actor_prepares_the_other_finishes(
    new_job: Callable[..., Job], spec: RunSpec, model_settings: ModelSettings
) -> None:
    takes = [Take.first(new_job(prompt=prompt)) for prompt in ("on grass", "on sand")]
    status, placed = Preprocessor(spec, threads=1).prepare(takes)
    generator = Generator(spec, model_settings, threads=1)
    generator.load()
    rows = generator.generate(takes, placed, 1)
    assert status == "prepared"
    assert [row.prompt for row in rows] == ["on grass", "on sand"]
    assert all(row.image_uri and row.run_id == "night" for row in rows)
    assert len(list(spec.open_store().list("_cutouts/"))) == 1


def test_a_generator_without_weights_says_so(
    new_job: Callable[..., Job], spec: RunSpec, model_settings: ModelSettings
) -> None:
    takes = [Take.first(new_job())]
    _, placed = Preprocessor(spec, threads=1).prepare(takes)
    with pytest.raises(RuntimeError, match="load"):
        Generator(spec, model_settings, threads=1).generate(takes, placed, 1)


@pytest.fixture
def generator(spec: RunSpec, model_settings: ModelSettings) -> Generator:
    made = Generator(spec, model_settings, threads=1)
    made.load()
    return made


def test_loading_says_where_the_weights_lie(spec: RunSpec, model_settings: ModelSettings) -> None:
    line = Generator(spec, model_settings, threads=1, prompts=("on grass",)).load()
    assert line.startswith("placement: resident (") and "\n" not in line


def test_the_next_batch_is_sampled_while_the_images_of_the_last_one_are_finished(
    new_job: Callable[..., Job], spec: RunSpec, generator: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = [[Take.first(new_job(prompt=prompt))] for prompt in ("on grass", "on sand", "in the snow")]
    _, placed = Preprocessor(spec, threads=1).prepare(batches[0])
    sampling, order = threading.Semaphore(), []
    second_begun = threading.Event()
    sample, finish_rows = actors.sample, actors.finish_rows

    def watched(takes: list[Take], *rest: object) -> object:
        assert sampling.acquire(blocking=False), "one batch at a time has the device"
        order.append(f"sample {takes[0].job.prompt}")
        if takes[0].job.prompt == "on sand":
            second_begun.set()
        try:
            return sample(takes, *rest)  # type: ignore[arg-type]
        finally:
            sampling.release()

    def held(sampled: object, takes: list[Take], *rest: object, attempts: int) -> object:
        if takes[0].job.prompt == "on grass":
            assert second_begun.wait(30), "the second batch waits for the first one's images"
        rows = finish_rows(sampled, takes, *rest, attempts=attempts)  # type: ignore[arg-type]
        order.append(f"finished {takes[0].job.prompt}")
        return rows

    monkeypatch.setattr(actors, "sample", watched)
    monkeypatch.setattr(actors, "finish_rows", held)
    with ThreadPoolExecutor(2) as pool:
        calls = [pool.submit(generator.generate, takes, placed, 1) for takes in batches]
        rows = [call.result(60)[0] for call in calls]
    assert order.index("sample on sand") < order.index("finished on grass")
    store = spec.open_store()
    for row, takes in zip(rows, batches, strict=True):
        assert (row.prompt, row.attempts) == (takes[0].job.prompt, 1)
        assert Path(store.uri_of(str(row.image_uri))).is_file(), "durable before it is reported"


def test_images_do_not_depend_on_what_is_finished_beside_them(
    new_job: Callable[..., Job], spec: RunSpec, generator: Generator
) -> None:
    batches = [[Take.first(new_job(prompt=f"on grass {number}"))] for number in range(4)]
    _, placed = Preprocessor(spec, threads=1).prepare(batches[0])
    one_by_one = [generator.generate(takes, placed, 1)[0].image_sha256 for takes in batches]
    with ThreadPoolExecutor(2) as pool:
        overlapped = [
            rows[0].image_sha256 for rows in pool.map(lambda takes: generator.generate(takes, placed, 1), batches)
        ]
    assert overlapped == one_by_one


def test_a_batch_that_does_not_fit_gives_the_device_back(
    new_job: Callable[..., Job], spec: RunSpec, generator: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    takes = [Take.first(new_job())]
    _, placed = Preprocessor(spec, threads=1).prepare(takes)
    with monkeypatch.context() as patch:

        def fail(*_: object) -> object:
            raise DeviceMemoryError("tried to allocate 20 GiB")

        patch.setattr(actors, "sample", fail)
        with pytest.raises(DeviceMemoryError):
            generator.generate(takes, placed, 1)
    assert generator.generate(takes, placed, 2)[0].attempts == 2


@pytest.mark.parametrize(
    ("images", "beside", "tried"), [(2, True, 1), (1, True, 2), (1, False, 1)], ids=["batch", "single", "on the CPU"]
)
def test_a_single_image_that_does_not_fit_beside_another_one_is_made_alone(
    new_job: Callable[..., Job], spec: RunSpec, generator: Generator, monkeypatch: pytest.MonkeyPatch,
    images: int, beside: bool, tried: int,
) -> None:  # fmt: skip
    """A batch is halved by the driver; of a single image there is no half."""
    takes = [Take.first(new_job(prompt=f"on grass {number}")) for number in range(images)]
    _, placed = Preprocessor(spec, threads=1).prepare(takes)
    assert generator._model is not None
    decode, calls = Model.decode, []

    def full(self: Model, latents: Latents) -> list[U8]:
        calls.append(generator._device.locked())
        if len(calls) == 1:
            raise DeviceMemoryError("tried to allocate 20 GiB")
        return decode(self, latents)

    monkeypatch.setattr(Model, "decode", full)
    monkeypatch.setattr(Model, "decodes_beside", beside)
    if tried == 1:
        with pytest.raises(DeviceMemoryError):
            generator.generate(takes, placed, 1)
    else:
        assert generator.generate(takes, placed, 1)[0].image_uri
    assert calls == [False, True][:tried], "the second time nothing is sampled beside it"
    assert not generator._device.locked()


def test_a_batch_is_decoded_while_the_next_one_is_sampled(
    new_job: Callable[..., Job], spec: RunSpec, generator: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = [[Take.first(new_job(prompt=prompt))] for prompt in ("on grass", "on sand")]
    _, placed = Preprocessor(spec, threads=1).prepare(batches[0])
    second_sampled, decode, sample = threading.Event(), Model.decode, actors.sample

    def watched(takes: list[Take], *rest: object) -> object:
        sampled = sample(takes, *rest)  # type: ignore[arg-type]
        if takes is batches[1]:
            second_sampled.set()
        return sampled

    def held(self: Model, latents: Latents) -> list[U8]:
        assert second_sampled.wait(30), "the second batch waits for the first one's decode"
        return decode(self, latents)

    monkeypatch.setattr(actors, "sample", watched)
    monkeypatch.setattr(Model, "decode", held)
    with ThreadPoolExecutor(2) as pool:
        calls = [pool.submit(generator.generate, takes, placed, 1) for takes in batches]
        assert all(call.result(60)[0].image_uri for call in calls)
