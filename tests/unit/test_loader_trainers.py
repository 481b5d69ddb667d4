"""Inside Lightning's and Hugging Face's trainers: two interrupted epochs see the batches of an uninterrupted run.

Both import torchvision where it is installed, hence `imported`; both are part of the development environment.
"""

from pathlib import Path
from typing import Any

import pytest
import torch

from ffcv import Loader
from small_files import NUMBERS_ONLY

COUNT, BATCH, BATCHES = 30, 4, 7
Seen = list[list[int]]

pytestmark = pytest.mark.filterwarnings("ignore")  # the trainers' own advice


def loader_of(path: Path) -> Loader:
    return Loader(path, BATCH, pipelines=NUMBERS_ONLY, shuffle=True, seed=2, num_workers=1)


def two_epochs(path: Path) -> Seen:
    loader = loader_of(path)
    found = [batch.index.flatten().tolist() for _ in range(2) for batch in loader]
    assert len(found) == 2 * BATCHES
    assert found[0] != found[BATCHES]
    return found


def imported(name: str) -> Any:
    pytest.importorskip("torchvision_reference", reason="torchvision is not installed")
    return pytest.importorskip(name, reason=f"{name} is optional and not installed")


@pytest.mark.parametrize("stop", [3, BATCHES, BATCHES + 2])
def test_lightning_resumes_in_the_middle_and_at_the_end_of_an_epoch(numbers: Path, tmp_path: Path, stop: int) -> None:
    lightning = imported("pytorch_lightning")

    class Model(lightning.LightningModule):
        def __init__(self, seen_before: Seen) -> None:
            super().__init__()
            self.linear = torch.nn.Linear(1, 1)
            self.seen_before = seen_before
            self.seen: Seen = []

        def training_step(self, batch: Any, number: int) -> torch.Tensor:
            assert number == len(self.seen_before + self.seen) % BATCHES
            self.seen.append(batch.index.flatten().tolist())
            return self.linear(batch.index.float()).mean()

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), 1e-6)

    def fit(steps: int, resumed_from: Path | None, before: Seen) -> Seen:
        model = Model(before)
        save = lightning.callbacks.ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=1, save_top_k=-1)
        quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
        trainer = lightning.Trainer(accelerator="cpu", max_epochs=2, max_steps=steps, callbacks=[save], **quiet)
        trainer.fit(model, loader_of(numbers), ckpt_path=resumed_from)
        return model.seen

    before = fit(stop, None, [])
    assert before == two_epochs(numbers)[:stop]
    assert before + fit(-1, tmp_path / f"step={stop}.ckpt", before) == two_epochs(numbers)


@pytest.mark.parametrize("stop", [3, BATCHES, BATCHES + 2])
def test_hugging_face_trainer_resumes(numbers: Path, tmp_path: Path, stop: int) -> None:
    transformers = imported("transformers")
    seen: Seen = []

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = torch.nn.Linear(1, 1)

        def forward(self, index: torch.Tensor) -> dict[str, torch.Tensor]:
            seen.append(index.flatten().tolist())
            return {"loss": self.linear(index.float()).mean()}

    class Batches:
        """What `Trainer` wants: dictionaries."""

        def __init__(self, loader: Loader) -> None:
            self.loader = loader
            self.set_epoch = loader.set_epoch

        def __len__(self) -> int:
            return len(self.loader)

        def __iter__(self) -> Any:
            return (batch._asdict() for batch in self.loader)

    class WithLoader(transformers.Trainer):
        def get_train_dataloader(self) -> Batches:
            return Batches(loader)

    class Keep(transformers.TrainerCallback):
        def on_save(self, args: Any, state: Any, control: Any, **more: Any) -> None:
            torch.save(loader.state_dict(), tmp_path / f"loader-{state.global_step}.pt")

    def train(steps: int, resumed_from: int | None) -> None:
        arguments = transformers.TrainingArguments(
            output_dir=str(tmp_path),
            num_train_epochs=2,
            max_steps=steps,
            save_steps=1,
            ignore_data_skip=True,  # the loader goes on by itself
            use_cpu=True,
            report_to=[],
            disable_tqdm=True,
        )
        folder = None
        if resumed_from is not None:
            loader.load_state_dict(torch.load(tmp_path / f"loader-{resumed_from}.pt"))
            folder = str(tmp_path / f"checkpoint-{resumed_from}")
        WithLoader(Model(), arguments, callbacks=[Keep()]).train(resume_from_checkpoint=folder)

    loader = loader_of(numbers)
    train(stop, None)
    assert seen == two_epochs(numbers)[:stop]
    loader = loader_of(numbers)
    train(2 * BATCHES, stop)
    assert seen == two_epochs(numbers)
