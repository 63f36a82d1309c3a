"""Checkpoints written by the real libraries, each from a real training that tells what happened (`Truth`).

timm is no dependency: its layout is written after its own saver.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from checkpoints.trainings import SAVES, STEPS, Convolutional, Dense, Truth, batch, loss_of, record, split, train
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR

Make = Callable[[Any], torch.optim.Optimizer]
Schedule = Callable[[torch.optim.Optimizer], Any]


def adamw(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, lr=0.01, weight_decay=0.02)


def cosine(optimizer: torch.optim.Optimizer) -> Any:
    return CosineAnnealingLR(optimizer, T_max=STEPS + 31, eta_min=1e-4)


def write_training_dicts(
    folder: Path,
    *,
    kind: type[nn.Module] = Dense,
    make: Make = adamw,
    schedule: Schedule | None = cosine,
    groups: Callable[[nn.Module], Any] = lambda model: model.parameters(),
    legacy: bool = False,
    **loop: Any,
) -> Truth:
    """{"model", "optimizer", "scheduler", "step"} of a plain loop: step_60.pt …"""
    torch.manual_seed(1)
    model = kind()
    optimizer = make(groups(model))
    scheduler = schedule(optimizer) if schedule else None

    def save(step: int) -> Path:
        content = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step, "epoch": step // 60}
        if scheduler is not None:
            content["scheduler"] = scheduler.state_dict()
        place = folder / f"step_{step}.pt"
        torch.save(content, place, _use_new_zipfile_serialization=not legacy)
        return place

    return train(model, optimizer, scheduler, save, **loop)


def write_state_dicts(folder: Path) -> Truth:
    """Bare state dicts: step_60.pt …"""
    torch.manual_seed(2)
    model = Dense()
    return train(model, adamw(model.parameters()), None, lambda step: _saved(model.state_dict(), folder, step))


def write_safetensors(folder: Path) -> Truth:
    """Bare weights: step_60.safetensors …"""
    from safetensors.torch import save_file

    torch.manual_seed(3)
    model = Dense()

    def save(step: int) -> Path:
        place = folder / f"step_{step}.safetensors"
        save_file(model.state_dict(), place)
        return place

    return train(model, adamw(model.parameters()), None, save)


def write_timm(folder: Path) -> Truth:
    """As timm's CheckpointSaver writes: epochs, arguments in a Namespace, an EMA beside the weights, no scheduler."""
    torch.manual_seed(4)
    model = Convolutional()
    average = torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.9))
    optimizer = adamw(list(reversed(split(model))))  # timm lists the group without decay first

    def save(step: int) -> Path:
        average.update_parameters(model)
        content = {
            "epoch": step // 60,
            "arch": "convolutional",
            "state_dict": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "version": 2,
            "args": argparse.Namespace(lr=0.01, epochs=4),
            "state_dict_ema": average.module.state_dict(),
            "metric": 0.5,
        }
        place = folder / f"checkpoint-{step // 60}.pth.tar"
        torch.save(content, place)
        return place

    return train(model, optimizer, None, save)


def write_averages(folder: Path) -> Truth:
    """State dicts of an AveragedModel alone; `weights` of the truth are those that the optimizer moved."""
    torch.manual_seed(5)
    model = Dense()
    average = torch.optim.swa_utils.AveragedModel(model)

    def save(step: int) -> Path:
        average.update_parameters(model)
        return _saved(average.state_dict(), folder, step)

    return train(model, adamw(model.parameters()), None, save)


def write_compiled(folder: Path) -> Truth:
    """State dicts of torch.compile's wrapper (which is not run: it would compile)."""
    torch.manual_seed(6)
    model = Dense()
    wrapped = torch.compile(model, backend="eager")
    return train(model, adamw(model.parameters()), None, lambda step: _saved(wrapped.state_dict(), folder, step))


def write_ddp(folder: Path) -> Truth:
    """A training dict of DistributedDataParallel over one process."""
    torch.manual_seed(7)
    with process_group():
        model = Convolutional()
        wrapped = nn.parallel.DistributedDataParallel(model)
        optimizer = torch.optim.SGD(wrapped.parameters(), lr=0.05, momentum=0.9)

        def save(step: int) -> Path:
            place = folder / f"iter_{step}.pth"
            torch.save({"state_dict": wrapped.state_dict(), "optimizer": optimizer.state_dict()}, place)
            return place

        return train(model, optimizer, None, save, runner=wrapped)


def write_dcp(folder: Path) -> Path:
    """One distributed checkpoint; gives its folder."""
    from torch.distributed import checkpoint

    model = Dense()
    optimizer = adamw(model.parameters())
    loss_of(model, Dense, 0).backward()
    optimizer.step()
    with process_group(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's own parts
        checkpoint.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, checkpoint_id=folder)
    return folder


def write_lightning(folder: Path, *, epoch: bool = False) -> Truth:
    """ModelCheckpoint of a LightningModule with a cosine schedule, stepped every update or (`epoch`) every 60."""
    import lightning

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.save_hyperparameters({"width": 13})
            self.net = Dense()

        def training_step(self, _: Any, number: int) -> torch.Tensor:
            return loss_of(self.net, Dense, number)

        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.Adam(self.parameters(), lr=0.01)
            record(self.net, optimizer, truth)
            length = 9 if epoch else STEPS + 31
            schedule = CosineAnnealingLR(optimizer, T_max=length)
            interval = "epoch" if epoch else "step"
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": interval}}

    class Save(lightning.Callback):
        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            if not epoch and trainer.global_step in SAVES:
                truth.places.append(folder / f"epoch={trainer.current_epoch}-step={trainer.global_step}.ckpt")
                trainer.save_checkpoint(truth.places[-1])

    truth = Truth()
    callbacks: list[Any] = [Save()]
    if epoch:
        saver = lightning.pytorch.callbacks.ModelCheckpoint(folder, save_top_k=-1, save_last=True)
        callbacks = [saver]
    torch.manual_seed(8)
    with _quiet("lightning", "lightning.pytorch", "lightning.fabric"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its own advice on workers and loggers
        trainer = lightning.Trainer(
            max_epochs=4 if epoch else 1,
            accelerator="cpu",
            logger=False,
            callbacks=callbacks,
            enable_checkpointing=epoch,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=folder,
        )
        trainer.fit(Module(), torch.utils.data.DataLoader(range(60 if epoch else STEPS)))
    if epoch:
        truth.places = sorted(folder.glob("epoch=*.ckpt"), key=lambda path: int(path.stem.rpartition("=")[2]))
    return truth


def write_accelerate(folder: Path) -> Truth:
    """Accelerator.save_state under automatic names: checkpoints/checkpoint_0 …; two models and optimizers."""
    from accelerate import Accelerator
    from accelerate.utils import ProjectConfiguration

    torch.manual_seed(9)
    model = Dense()
    truth = Truth()
    with _quiet("accelerate.accelerator", "accelerate.checkpointing"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        configuration = ProjectConfiguration(project_dir=str(folder), automatic_checkpoint_naming=True)
        accelerator = Accelerator(cpu=True, project_config=configuration)
        bare = adamw(split(model))
        prepared, optimizer, scheduler = accelerator.prepare(model, bare, cosine(bare))
        record(model, bare, truth)
        for step in range(STEPS):
            loss = loss_of(prepared, Dense, step)
            optimizer.zero_grad()
            accelerator.backward(loss)
            optimizer.step()
            scheduler.step()
            if step + 1 in SAVES:
                truth.places.append(Path(accelerator.save_state()))
    return truth


def write_transformers(folder: Path, *, shards: bool = False, logging_steps: int = 1) -> Truth:
    """transformers' Trainer: checkpoint-60 …, two groups, a linear schedule with warmup, every rate logged."""
    from transformers import (
        PreTrainedConfig,
        PreTrainedModel,
        PrinterCallback,
        Trainer,
        TrainerCallback,
        TrainingArguments,
    )
    from transformers.utils.logging import disable_progress_bar

    class Config(PreTrainedConfig):
        model_type = "dense"

    class Model(PreTrainedModel):
        config_class = Config

        def __init__(self, config: Config) -> None:
            super().__init__(config)
            self.net = Dense()
            self.post_init()

        def forward(self, inputs: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
            logits = self.net(inputs)
            return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}

    class Resave(TrainerCallback):
        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            place = folder / f"checkpoint-{state.global_step}"
            truth.places.append(place)
            if shards:
                (place / "model.safetensors").unlink()
                model.save_pretrained(place, max_shard_size=300)

    class Own(Trainer):
        def create_optimizer(self, *args: Any) -> Any:
            optimizer = super().create_optimizer(*args)
            record(model.net, optimizer, truth)
            return optimizer

    class Data(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return STEPS * 17

        def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
            x, y = batch(Dense, index // 17)
            return {"inputs": x[index % 17], "labels": y[index % 17]}

    truth = Truth()
    disable_progress_bar()
    torch.manual_seed(10)
    model = Model(Config())
    with _quiet("transformers"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        arguments = TrainingArguments(
            output_dir=str(folder),
            per_device_train_batch_size=17,
            max_steps=STEPS,
            learning_rate=0.01,
            weight_decay=0.01,
            warmup_steps=23,
            logging_steps=logging_steps,
            save_strategy="steps",
            save_steps=60,
            report_to=[],
            disable_tqdm=True,
            use_cpu=True,
            remove_unused_columns=False,
        )
        trainer = Own(model=model, args=arguments, train_dataset=Data(), callbacks=[Resave()])
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return truth


@contextlib.contextmanager
def process_group() -> Iterator[None]:
    """One process that is its own world."""
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        yield
    finally:
        torch.distributed.destroy_process_group()


@contextlib.contextmanager
def _quiet(*names: str) -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _saved(content: Any, folder: Path, step: int) -> Path:
    place = folder / f"step_{step}.pt"
    torch.save(content, place)
    return place
