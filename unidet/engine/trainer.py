"""The training loop, and what it does at each step and epoch."""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

from unidet.backends import nn, random
from unidet.backends.parallel import ranks
from unidet.checkpoints.native import load_checkpoint
from unidet.config import Config, resolve
from unidet.config.measured import is_measured
from unidet.engine import setup
from unidet.engine.checkpointing import link, save_best, save_state
from unidet.engine.display import Display
from unidet.engine.divergence import Diverged, DivergenceWatch
from unidet.engine.ema import Ema
from unidet.engine.preflight import check_data, check_measured, check_metrics
from unidet.engine.progress import Progress
from unidet.engine.run_folder import RunFolder, write_json
from unidet.engine.run_log import RunLog
from unidet.engine.saved_state import Saved
from unidet.engine.schedule import Plateau, Span, scale
from unidet.engine.stepper import Stepper
from unidet.engine.validation import evaluate, weights_of
from unidet.errors import RunFailedError, UserError, suggestion
from unidet.structures import Batch

T = TypeVar("T")


def chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of ``size`` items in order, the last one shorter."""
    iterator = iter(items)
    while chunk := list(itertools.islice(iterator, size)):
        yield chunk


class Trainer:
    """Everything a run needs, and its loop.

    Args:
        config: of the run.
        folder: of the run.
        backend: "torch" or "jittor".
        device: "cpu" or "cuda".

    Attributes:
        warnings: about the data, one line each.
        progress: where the run stands.
        span: its length in optimizer steps.
    """

    def __init__(self, config: Config, folder: RunFolder, *, backend: str, device: str) -> None:
        self.config, self.folder, self.backend = config, folder, backend
        self.world = ranks.world()
        options = config.train
        seed = options.seed
        self.train_sets = setup.load_datasets(config, "train", folder.root)
        self.val_sets = setup.load_datasets(config, "val", folder.root)
        known = check_metrics(config, self.val_sets)
        self.warnings = check_data(config, self.train_sets, self.val_sets)
        self.model = setup.build_model(
            config, self.train_sets, backend=backend, device=device, seed=seed
        )
        self.loader = setup.build_loader(config, self.train_sets, self.model, train=True, seed=seed)
        self.val_loader = (
            setup.build_loader(config, self.val_sets, self.model, train=False, seed=seed)
            if self.val_sets
            else None
        )
        if self.val_loader is not None:
            check_measured(config, self.model, self.val_loader, known)
        self.optimizer = setup.build_optimizer(config, self.model)
        self.stepper = Stepper(
            self.model,
            self.optimizer,
            clip_grad_norm=options.clip_grad_norm,
            amp=options.amp,
            device=device,
            compiled=options.compile,
        )
        self.ema = None if options.ema_decay is None else Ema(self.model, options.ema_decay)
        per_epoch = math.ceil(len(self.loader) / options.accumulate)
        total = options.epochs * per_epoch
        self.span = Span(min(total, options.max_steps or total), per_epoch)
        self.plateau = Plateau(config.schedule) if config.schedule.kind == "plateau" else None
        self.watch = DivergenceWatch(options.max_loss_growth)
        self.progress = Progress()
        self._saved_step = -1

    def attach(self, log: RunLog, display: Display) -> None:
        """Says where to report."""
        self.log, self.display = log, display
        for loader in filter(None, (self.loader, self.val_loader)):
            loader.watch.report = self._warn

    def say(self, text: str) -> None:
        """A line for the log and the terminal."""
        self.log.line(text)
        self.display.line(text)

    def _warn(self, text: str) -> None:
        """A line that any rank may have to say."""
        if self.world.is_main:
            self.say(text)
        else:
            print(f"unidet: rank {self.world.rank}: {text}", file=sys.stderr, flush=True)

    # The loop.

    def run(self) -> None:
        """Trains from where the run stands to its end."""
        progress = self.progress
        images = sum(len(part) for part in self.train_sets)
        self.say(
            f"training {self.config.model.name} on {self.backend}: {images} images, "
            f"{self.span.total} steps, seed {self.config.train.seed}"
        )
        trained, total = setup.count_parameters(self.model)
        self.say(f"{trained:,} of {total:,} parameters train")
        if self.world.size > 1:
            batch = self.config.data.batch_size
            self.say(f"{self.world.size} ranks share each batch of {batch} images")
        try:
            while progress.step < self.span.total:
                self._train_epoch()
                if progress.batch >= len(self.loader):
                    self._end_epoch()
        except Diverged as error:
            self._stop_diverged(error)
        unseen = progress.evaluated_step != progress.step
        if unseen:
            self._evaluate()
        if unseen or self._saved_step != progress.step:
            self._save()
        if self.config.train.load_best_at_end:
            self._load_best()
        self._report_end()

    def _train_epoch(self) -> None:
        progress, options = self.progress, self.config.train
        self.model.train()
        with self.loader.epoch(progress.epoch, progress.batch) as batches:
            for group in chunks(batches, options.accumulate):
                self._train_step(group)
                progress.batch += len(group)
                self._after_step()
                if progress.step >= self.span.total:
                    return

    def _train_step(self, batches: list[Batch]) -> None:
        progress = self.progress
        # Dropout alone draws from the framework; seeding it by the step makes resuming exact.
        rank = [self.world.rank] if self.world.rank else []
        random.seed_framework(self.config.train.seed, progress.step, *rank, backend=self.backend)
        factor = scale(self.config.schedule, progress.step, self.span)
        if self.plateau is not None:
            factor *= self.plateau.scale
        # What a model samples depends on the step alone, too.
        with random.at(self.config.train.seed, "step", progress.step):
            values = self.stepper.step(batches, factor, self.watch.check)
        progress.step += 1
        if self.ema is not None:
            self.ema.update(progress.step)
        progress.add_loss(values)
        self.display.step(progress.step, progress.epoch + 1, values)
        if progress.step == 1 or progress.step % self.config.train.log_every == 0:
            self._log_losses(factor * self.config.optimizer.lr)

    def _after_step(self) -> None:
        progress, options = self.progress, self.config.train
        last_of_epoch = progress.batch >= len(self.loader)
        if _due(progress.step, options.eval_every_steps):
            self._evaluate()
            self.model.train()
        # The end of an epoch saves by itself, with the epoch counted.
        if _due(progress.step, options.checkpoint_every) and not last_of_epoch:
            self._save()

    def _end_epoch(self) -> None:
        progress, options = self.progress, self.config.train
        loss = progress.end_epoch()
        self.log.epoch(progress.step, progress.epoch, loss)
        self.say(f"epoch {progress.epoch}/{options.epochs} done, mean loss {loss:.4f}")
        if self.plateau is not None and self.config.schedule.metric == "loss":
            self._update_plateau(loss)
        if _due(progress.epoch, options.eval_every) and progress.evaluated_step != progress.step:
            self._evaluate()
        self._save()

    # Its turns.

    def _log_losses(self, lr: float) -> None:
        progress = self.progress
        values = {**progress.take_window(), "lr": lr}
        self.log.losses(progress.step, progress.epoch + 1, values)
        self.log.line(self.display.losses(progress.step, progress.epoch + 1, values))

    def _evaluate(self) -> None:
        progress = self.progress
        progress.evaluated_step = progress.step
        if self.val_loader is None:
            return
        ranks.share_buffers(self.model)
        averaged = None if self.ema is None else self.ema.state_arrays()
        with weights_of(self.model, averaged):
            result = evaluate(self.model, self.val_loader, self.val_sets[0], self.config.evaluation)
        progress.metrics = {name: float(value) for name, value in result.metrics.items()}
        epoch = progress.epoch + (1 if progress.batch else 0)
        self.log.evaluation(progress.step, epoch, progress.metrics)
        better = self._is_better()
        names = dict.fromkeys([*_headline(progress.metrics), self.config.train.best_metric])
        shown = [f"{name} {progress.metrics[name]:.4f}" for name in names]
        self.say(f"evaluation at step {progress.step}: {'  '.join(shown)}{'  (best)' * better}")
        summary = {
            "step": progress.step,
            "epoch": epoch,
            "metrics": progress.metrics,
            "per_class": result.per_class,
        }
        if self.world.is_main and (better or not self.config.train.load_best_at_end):
            write_json(self.folder.evaluation, summary)
        if self.world.is_main and better:
            write_json(self.folder.detections, result.results)
            source = {"step": progress.step, "epoch": epoch, "metrics": progress.metrics}
            arrays = nn.state_arrays(self.model) if averaged is None else averaged
            save_best(self.folder, self.model, arrays, {**source, "backend": self.backend})
        if self.plateau is not None and self.config.schedule.metric != "loss":
            self._update_plateau(self._metric(self.config.schedule.metric, "schedule.metric"))

    def _is_better(self) -> bool:
        """Notes a new best value of the chosen metric."""
        progress, options = self.progress, self.config.train
        value = self._metric(options.best_metric, "train.best_metric")
        sign = 1 if options.maximise else -1
        if not is_measured(value, maximise=options.maximise):
            return False
        if progress.best is not None and sign * value <= sign * progress.best:
            return False
        progress.best, progress.best_step = value, progress.step
        return True

    def _metric(self, name: str, key: str) -> float:
        metrics = self.progress.metrics
        if name not in metrics:
            raise UserError(
                f"Invalid value for `{key}`. Expected one of {', '.join(metrics)}. "
                f"Received {name!r}.{suggestion(name, metrics)}"
            )
        return metrics[name]

    def _update_plateau(self, value: float) -> None:
        if self.plateau is not None and self.plateau.update(value):
            self.say(f"no progress: learning rate times {self.plateau.scale:.3g} from here on")

    # Saving and going on.

    def state(self) -> Saved:
        """All that a resumed run needs."""
        progress = self.progress
        progress.watch = self.watch.state()
        progress.plateau = {} if self.plateau is None else self.plateau.state()
        progress.scaling = self.optimizer.scaling()
        return Saved(
            nn.state_arrays(self.model),
            self.optimizer.state_arrays(),
            progress,
            resolve(self.config),
            self.backend,
            {} if self.ema is None else self.ema.state_arrays(),
        )

    def start_from(self, path: str) -> str:
        """Takes the weights of a checkpoint and returns a line that says which."""
        line = setup.load_initial_weights(self.model, path)
        if self.ema is not None:
            self.ema.load_state_arrays(nn.state_arrays(self.model))
        return line

    def restore(self, saved: Saved) -> None:
        """Goes on from a saved state, whichever backend wrote it.

        Raises:
            UserError: the data have other classes than the saved run.
        """
        own = tuple(self.model.class_names or ())
        if own and saved.class_names and own != saved.class_names:
            raise UserError(
                f"Invalid value for `data.train`. Expected the classes of the saved run, "
                f"{_listed(saved.class_names)}. Received {_listed(own)}."
            )
        nn.load_arrays(self.model, saved.weights)
        self.optimizer.load_state_arrays(saved.optimizer)
        self.optimizer.restore_scaling(saved.progress.scaling)
        self.progress = saved.progress
        self._saved_step = saved.progress.step
        if saved.progress.watch:
            self.watch.restore(saved.progress.watch)
        if self.plateau is not None and saved.progress.plateau:
            self.plateau.restore(saved.progress.plateau)
        if self.ema is not None:
            self.ema.load_state_arrays(saved.ema or saved.weights)

    def _save(self) -> None:
        if self.world.is_main:
            save_state(self.folder, self.model, self.state())
        # Nobody reads before it is written, nor goes on where writing failed.
        self.world.wait()
        self._saved_step = self.progress.step

    def _load_best(self) -> None:
        """Ends with the weights of the best evaluation; the state stays that of the last step."""
        folder = self.folder
        if self.progress.best is None or not folder.best.exists():
            name = self.config.train.best_metric
            self.say(f"no evaluation has given a finite {name}: the final weights are the last")
            if self.world.is_main:
                link(folder.last, folder.final)
            return
        best = load_checkpoint(folder.best)
        nn.load_arrays(self.model, best.arrays)
        source = best.source or {}
        self.progress.metrics = dict(source.get("metrics", {}))
        if self.world.is_main:
            link(folder.best, folder.final)
        self.say(f"{folder.final.name} holds the best weights, of step {source.get('step')}")

    def _stop_diverged(self, error: Diverged) -> None:
        progress = self.progress
        if self.world.is_main:
            save_state(self.folder, self.model, self.state(), state_dir=self.folder.diverged)
        good = (
            f"the last good state is {self.folder.last}"
            if self.folder.last.exists()
            else ("there is no earlier state")
        )
        message = (
            f"Stopped at epoch {progress.epoch + 1}, step {progress.step + 1}: {error}. The state "
            f"before this step is in {self.folder.diverged}; {good}. Try a lower optimizer.lr "
            f"(now {self.config.optimizer.lr:g}), schedule.warmup_steps or train.clip_grad_norm."
        )
        self.log.line(message)
        self._plot()
        self.world.wait()  # a rank that ends would end the one that still writes
        raise RunFailedError(message) from None

    def _report_end(self) -> None:
        progress = self.progress
        self._plot()
        losses = ", ".join(f"{loss:.4f}" for loss in progress.epoch_losses)
        self.say(f"epoch losses: [{losses}]")
        for loader in filter(None, (self.loader, self.val_loader)):
            if loader.left_out:
                self._warn(f"{len(loader.left_out)} of {loader.num_images} images left out")
        name = self.config.train.best_metric
        if progress.best is not None:
            self.say(f"best {name} {progress.best:.4f} at step {progress.best_step}")
        self.say(f"saved in {self.folder.root}")

    def _plot(self) -> None:
        from unidet.visualization.curves import plot_run

        if not self.world.is_main:
            return
        try:
            plot_run(self.folder.root)
        except (UserError, RunFailedError) as error:
            # The weights are saved; a missing picture is no reason to fail.
            self.say(f"no loss curve: {error}")


def _listed(names: tuple[str, ...]) -> str:
    return f"{len(names)} ({', '.join(names[:8])}{', ...' if len(names) > 8 else ''})"


def _due(count: int, every: int) -> bool:
    return bool(every) and count % every == 0


def _headline(metrics: dict[str, float]) -> list[str]:
    preferred: list[str] = [name for name in ("AP", "AP50", "AP75", "val_loss") if name in metrics]
    return preferred or list(metrics)[:4]
