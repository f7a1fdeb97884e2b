"""Distillation: a network learns to say of an image what a teacher says of it at several sizes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from anomaly_seg_ros.checkpoint.folder import Checkpoint
from anomaly_seg_ros.engines.scored_model import ImageModel
from anomaly_seg_ros.model_output import ModelOutput
from anomaly_seg_ros.scores import score_class
from training.feeding.loading import Batch
from training.losses import Loss
from training.recipes.typed_values import convert

from .objective import Forward, Objective


class Distillation(Objective):
    """`KL(p_teacher || p) + weight * ((L_teacher - L)^2 + (O_teacher - O)^2)`, mean of all pixels.

    p are the probabilities of the classes, L is `ln sum_c exp(l_c)`, the unnormalised
    log-likelihood, and O the log-odds of the outlier head: all that the scores of DenseHybrid and
    the labels are made of, and with p and L every logit. O is left out where the network has no
    outlier head.

    The teacher sees the image at several sizes, and the mean of its logits is learned: small, it
    sees at once what fills the picture, and large, what is far off. The network learns to say the
    same of one size, in the time of one. Where the teacher is the network that the run begins
    with, nothing else is needed, and no label is read: frames without labels are as good.

    Where frames have labels, `label_weight` adds the recipe's loss on them, as Hinton et al. do:
    a teacher that is the network itself knows no class better than it does.

    Args:
        loss: Of the labels.
        aux_weight: Not used.
        teacher: Checkpoint folder with the classes of the data, or 'default'; must be given.
        sizes: Factors on the sides of the image that the teacher sees.
        weight: Of the two squared errors.
        label_weight: Of `loss`; 0 reads no label.

    Attributes:
        class_names: Of the teacher, in train-id order.
        autocast: See `HasTeacher`.

    Source: Hinton et al., "Distilling the Knowledge in a Neural Network", 2015,
    https://arxiv.org/abs/1503.02531, and the mean over sizes of Chen et al., "Attention to Scale",
    2016, https://arxiv.org/abs/1511.03339, without its attention. The squared errors are ours.
    """

    ignores_outliers = True

    @classmethod
    def score(cls, options: Mapping[str, Any]) -> str | None:
        """Gives the teacher's own score where that needs no statistics."""
        name = _opened(options.get('teacher', '')).meta.score
        return None if score_class(name).statistics else name

    def __init__(
        self,
        loss: Loss,
        aux_weight: float = 1.0,
        *,
        teacher: str = '',
        sizes: Sequence[float] = (0.5, 1.0, 2.0),
        weight: float = 0.05,
        label_weight: float = 0.0,
    ):
        super().__init__()
        self.sizes = convert('sizes', 'tuple[float, ...]', sizes)
        if not self.sizes or not min(self.sizes) > 0:
            raise ValueError(f'sizes is {sizes}; distillation needs factors above 0')
        if not weight > 0:
            raise ValueError(f'weight is {weight}; distillation needs one above 0')
        if not label_weight >= 0:
            raise ValueError(f'label_weight is {label_weight}; distillation needs one from 0 on')
        self.loss, self.weight, self.label_weight = loss, weight, label_weight
        checkpoint = _opened(teacher)
        self.class_names = checkpoint.meta.class_names
        model = ImageModel(checkpoint.network(), checkpoint.meta).eval().requires_grad_(False)
        model.float().model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._teacher = (model,)  # no part of the state that a run saves
        self.autocast: Callable[[], AbstractContextManager[Any]] = nullcontext

    def forward(self, network: Forward, batch: Batch) -> dict[str, Tensor]:
        """Gives the terms of one batch.

        Raises:
            ValueError: The network has an outlier head that the teacher lacks.
        """
        images = batch.images.float() / 255
        wanted, found = self.taught(images), network(images)
        if found.ood_logits is not None and wanted.ood_logits is None:
            raise ValueError(
                'the network has an outlier head, of which the teacher without one says nothing; '
                'set model_options.outlier_head=false, or choose another teacher'
            )
        theirs, ours = (output.given('logits').float() for output in (wanted, found))
        divergence = functional.kl_div(
            ours.log_softmax(1), theirs.log_softmax(1), reduction='none', log_target=True
        )
        likelihood = functional.mse_loss(ours.logsumexp(1), theirs.logsumexp(1))
        terms = {'classes': divergence.sum(1).mean(), 'likelihood': self.weight * likelihood}
        if found.ood_logits is not None and wanted.ood_logits is not None:
            error = functional.mse_loss(_odds(found.ood_logits), _odds(wanted.ood_logits))
            terms['odds'] = self.weight * error
        if self.label_weight:
            terms['labels'] = self.label_weight * self.loss(ours, batch.labels)
        return terms

    @torch.no_grad()
    def taught(self, images: Tensor) -> ModelOutput:
        """Gives the mean of what the teacher says of the images at each size, in float32.

        Args:
            images: (N, 3, H, W) float RGB in 0..1.
        """
        seen = [self._seen(images, factor) for factor in self.sizes]
        logits = torch.stack([output.given('logits') for output in seen]).mean(0)
        heads = [output.ood_logits for output in seen if output.ood_logits is not None]
        return ModelOutput(logits, ood_logits=torch.stack(heads).mean(0) if heads else None)

    def _seen(self, images: Tensor, factor: float) -> ModelOutput:
        """Gives what the teacher says at one size, enlarged or reduced to that of the images."""
        model, size = self._teacher[0].to(images.device), images.shape[2:]
        if factor != 1:
            sides = [max(round(side * factor), 1) for side in size]
            images = functional.interpolate(images, sides, mode='bilinear', antialias=True)
        with self.autocast():
            output = model.of_unit(images)
        return ModelOutput(output.given('logits'), ood_logits=output.ood_logits).over_pixels(
            lambda maps: functional.interpolate(maps.float(), size, mode='bilinear')
        )


def _odds(head: Tensor) -> Tensor:
    return head[:, 1].float() - head[:, 0].float()


def _opened(teacher: str) -> Checkpoint:
    """Opens the folder of a teacher.

    Raises:
        ValueError: None is given, or it is not usable.
        FileNotFoundError: There is no such folder.
    """
    if not teacher:
        raise ValueError(
            "distillation needs a 'teacher'; type objective_options.teacher=DIR, a checkpoint "
            "folder, or 'default'"
        )
    return Checkpoint.open(teacher)
