import numpy as np
import pytest

from training.metrics.confusion import ConfusionMatrix


def test_hand_worked_iou() -> None:
    matrix = ConfusionMatrix(3)
    matrix.update(np.uint8([[0, 0, 1], [1, 2, 0]]), np.uint8([[0, 1, 1], [1, 255, 255]]))
    # class 0: hit 1, union 2; class 1: hit 2, union 3; class 2 only where the label is ignored
    assert matrix.iou()[:2].tolist() == pytest.approx([1 / 2, 2 / 3])
    assert np.isnan(matrix.iou()[2])
    assert matrix.mean_iou() == pytest.approx((1 / 2 + 2 / 3) / 2)


def test_frames_are_pooled_not_averaged() -> None:
    matrix = ConfusionMatrix(2)
    matrix.update(np.zeros((1, 9), np.uint8), np.zeros((1, 9), np.uint8))
    matrix.update(np.uint8([[0]]), np.uint8([[1]]))
    assert matrix.iou().tolist() == [9 / 10, 0.0]


def test_equals_scikit_learn() -> None:
    import sklearn.metrics as metrics

    random = np.random.default_rng(0)
    truth = random.integers(0, 5, (64, 64)).astype(np.uint8)
    guess = np.where(random.random((64, 64)) < 0.6, truth, random.integers(0, 5, (64, 64)))
    matrix = ConfusionMatrix(5)
    matrix.update(guess.astype(np.uint8), truth)
    expected = metrics.jaccard_score(truth.ravel(), guess.ravel(), average='macro')
    assert matrix.mean_iou() == pytest.approx(expected)


def test_halves_merged_equal_the_whole() -> None:
    random = np.random.default_rng(1)
    truth, guess = random.integers(0, 4, (2, 10, 10)).astype(np.uint8)
    whole, first, second = (ConfusionMatrix(4) for _ in range(3))
    whole.update(guess, truth)
    first.update(guess[:5], truth[:5])
    second.update(guess[5:], truth[5:])
    first.merge(second)
    assert (first.counts == whole.counts).all()


def test_a_prediction_outside_of_the_classes_is_a_miss() -> None:
    matrix = ConfusionMatrix(2)
    matrix.update(np.uint8([[255, 0]]), np.uint8([[0, 0]]))
    assert matrix.iou()[0] == 0.5


def test_all_ignored_is_undefined() -> None:
    matrix = ConfusionMatrix(2)
    matrix.update(np.uint8([[0]]), np.uint8([[255]]))
    assert np.isnan(matrix.mean_iou())


def test_a_label_that_is_no_class_is_an_error() -> None:
    with pytest.raises(ValueError, match='label 11 is not one of 11 classes or 255'):
        ConfusionMatrix(11).update(np.uint8([[0]]), np.uint8([[11]]))


def test_sizes_must_agree() -> None:
    with pytest.raises(ValueError, match=r'prediction is \(1, 1\), labels are \(1, 2\)'):
        ConfusionMatrix(2).update(np.zeros((1, 1), np.uint8), np.zeros((1, 2), np.uint8))
