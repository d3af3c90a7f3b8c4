"""cloud.evaluation: what several cells' results are together."""

from cloud.evaluation import joined

ONE = {"success_rate": 1.0, "episodes": 50, "mean_steps": 10.0, "mean_return": 1.0, "seed": 7, "version": 3}
TWO = ONE | {"success_rate": 0.5, "mean_steps": 30.0, "mean_return": 0.5}


def test_one_cells_result_is_the_runs() -> None:
    assert joined({"sim": ONE}) == ONE


def test_several_cells_are_averaged_and_stay_apart() -> None:
    assert joined({"panda": ONE, "arm6": TWO}) == {
        "success_rate": 0.75, "episodes": 100, "mean_steps": 20.0, "mean_return": 0.75, "seed": 7, "version": 3,
        "by_cell": {"panda": ONE, "arm6": TWO},
    }  # fmt: skip
