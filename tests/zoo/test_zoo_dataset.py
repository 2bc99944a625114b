"""The dataset: order, bounded memory, several processes."""

import pickle

import pytest
import torch
from torch.utils.data import DataLoader
from zoo_factories import fill_zoo

from lora_gen.errors import ZooError
from lora_gen.zoo.dataset import ZooDataset
from lora_gen.zoo.store import Zoo

ADAPTER_BYTES = 2 * (2 * 4 + 4 * 2) * 2  # two modules, two factors of 8 values, float16


def test_dataset_yields_entries_and_weights_in_order(tmp_path):
    ids = fill_zoo(tmp_path / "zoo")
    dataset = ZooDataset(tmp_path / "zoo")
    items = [dataset[number] for number in range(len(dataset))]
    assert [item.entry.id for item in items] == ids
    assert [item.index for item in items] == [0, 1, 2]
    with Zoo.open(tmp_path / "zoo", read_only=True) as zoo:
        for name, pair in zoo.load(ids[2]).pairs.items():
            assert torch.equal(items[2].adapter.pairs[name].lora_a, pair.lora_a)


def test_dataset_keeps_only_what_fits_the_cache(tmp_path):
    fill_zoo(tmp_path / "zoo", 5)
    dataset = ZooDataset(tmp_path / "zoo", cache_bytes=2 * ADAPTER_BYTES)
    for number in (0, 1, 0, 2, 3, 4):
        dataset[number]
        assert dataset.cached_bytes() <= 2 * ADAPTER_BYTES
    assert dataset[4].adapter is dataset[4].adapter
    assert dataset[4].adapter is dataset[-1].adapter


def test_dataset_evicts_the_one_unused_longest(tmp_path):
    fill_zoo(tmp_path / "zoo", 3)
    dataset = ZooDataset(tmp_path / "zoo", cache_bytes=2 * ADAPTER_BYTES)
    first, second = dataset[0].adapter, dataset[1].adapter
    assert dataset[0].adapter is first
    dataset[2]
    assert dataset[0].adapter is first
    assert dataset[1].adapter is not second


def test_dataset_without_a_cache_still_loads(tmp_path):
    ids = fill_zoo(tmp_path / "zoo", 2)
    dataset = ZooDataset(tmp_path / "zoo", cache_bytes=0)
    assert [dataset[1].entry.id, dataset[1].entry.id] == [ids[1]] * 2
    assert dataset.cached_bytes() == 0


def test_dataset_is_narrowed_by_filters(tmp_path):
    ids = fill_zoo(tmp_path / "zoo")
    assert ZooDataset(tmp_path / "zoo", task="task1", split="seen").ids == (ids[1],)
    with pytest.raises(ZooError, match="has no entries with split `unseen_wording`"):
        ZooDataset(tmp_path / "zoo", split="unseen_wording")


def test_dataset_works_in_worker_processes_that_inherit_it(tmp_path):
    ids = fill_zoo(tmp_path / "zoo", 4)
    dataset = ZooDataset(tmp_path / "zoo")
    dataset[0]
    loader = DataLoader(
        dataset, batch_size=2, num_workers=1, collate_fn=_ids, multiprocessing_context="fork"
    )
    assert [entry_id for batch in loader for entry_id in batch] == ids


def _ids(items):
    return [item.entry.id for item in items]


def test_dataset_can_be_pickled_and_closed(tmp_path):
    ids = fill_zoo(tmp_path / "zoo", 2)
    dataset = ZooDataset(tmp_path / "zoo")
    dataset[0]
    copy = pickle.loads(pickle.dumps(dataset))
    dataset.close()
    assert (dataset.cached_bytes(), copy.cached_bytes()) == (0, 0)
    assert [copy[1].entry.id, dataset[1].entry.id] == [ids[1]] * 2


def test_index_outside_the_dataset_is_an_index_error(tmp_path):
    fill_zoo(tmp_path / "zoo", 1)
    with pytest.raises(IndexError):
        ZooDataset(tmp_path / "zoo")[1]
