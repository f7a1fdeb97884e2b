"""Declares the parameter table in ROS and reads it back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.node import Node
from rclpy.parameter import Parameter as RosParameter

from anomaly_seg_ros.node.config import (
    DYNAMIC,
    NodeConfig,
    Parameter,
    parameters,
    READ_ONLY,
    refuse_unknown,
)

from .compat import start_up_values

OF_ROS = ('use_sim_time', 'start_type_description_service')
"""Parameters of rclpy's own node that not every version declares."""
QOS_OVERRIDES = 'qos_overrides.'


def descriptor(parameter: Parameter) -> ParameterDescriptor:
    """Gives the ROS descriptor of a row of the table."""
    result = ParameterDescriptor(
        description=f'{parameter.help} ({parameter.effect})',
        read_only=parameter.effect == READ_ONLY,
        additional_constraints=f'one of: {", ".join(parameter.choices)}'
        if parameter.choices
        else '',
    )
    if parameter.range is not None:
        low, high = parameter.range
        if isinstance(parameter.default, float):
            result.floating_point_range = [FloatingPointRange(from_value=low, to_value=high)]
        else:
            result.integer_range = [IntegerRange(from_value=int(low), to_value=int(high), step=1)]
    return result


def declare(node: Node) -> None:
    """Declares every parameter of the table on a node.

    Raises:
        ValueError: A value given at start-up has another type, is out of range, or is of a
            parameter that neither we nor ROS have.
    """
    for parameter in parameters():
        _declare(node, parameter)
    refuse_unknown(
        name
        for name in start_up_values(node)
        if not (node.has_parameter(name) or name in OF_ROS or name.startswith(QOS_OVERRIDES))
    )


def unused_overrides(node: Node, known: Iterable[str]) -> list[str]:
    """Gives what was said at start-up of the quality of service of topics that are none of ours.

    To be asked once the topics are there: only then ROS declares these parameters.

    Args:
        node: Of the parameters.
        known: Topics that it may read yet.
    """
    later = tuple(f'{QOS_OVERRIDES}{topic}.' for topic in known)
    overrides = [name for name in start_up_values(node) if name.startswith(QOS_OVERRIDES)]
    return [name for name in overrides if not (node.has_parameter(name) or name.startswith(later))]


def _declare(node: Node, parameter: Parameter) -> None:
    default = parameter.default
    value = list(default) if isinstance(default, tuple) else default
    try:
        declared = node.declare_parameter(parameter.name, value, descriptor(parameter))
        fits = declared.type_ != RosParameter.Type.NOT_SET  # rcl leaves an empty list so
    except InvalidParameterTypeException:
        fits = False
    except InvalidParameterValueException as error:
        raise ValueError(f'parameter {parameter.name}: {error}') from None
    if not fits:
        given = start_up_values(node)[parameter.name].value
        if given is not None:
            parameter.check(tuple(given) if isinstance(given, list) else given)
        raise ValueError(f'parameter {parameter.name} must be {parameter.form}')


def unknown(node: Node, names: Iterable[str]) -> str:
    """Gives what is said of names that the node has no parameter of."""
    try:
        refuse_unknown(name for name in names if not node.has_parameter(name))
    except ValueError as error:
        return str(error)
    return ''


def read(node: Node) -> NodeConfig:
    """Gives the present values of all parameters.

    Raises:
        ValueError: A value does not fit, or two do not fit together.
    """
    names = [parameter.name for parameter in parameters()]
    values = {p.name: p.value for p in node.get_parameters(names)}
    return NodeConfig.from_mapping(values)


def refusal(
    config: NodeConfig, changes: Iterable[RosParameter[Any]], active: bool
) -> tuple[str, NodeConfig]:
    """Checks a batch of changes.

    Args:
        config: The present values.
        changes: What is asked for; names outside the table are none of our business.
        active: Whether the node runs, so that only dynamic parameters may change.

    Returns:
        ('', new values), or (why not, the present values).
    """
    table = {parameter.name: parameter for parameter in parameters()}
    wanted: dict[str, Any] = {}
    for change in changes:
        row = table.get(change.name)
        if row is None:
            continue
        if row.effect == READ_ONLY and change.value != getattr(config, change.name):
            return f'{change.name} is read-only; set it where the node is started', config
        if active and row.effect != DYNAMIC and change.value != getattr(config, change.name):
            return f'{change.name} cannot change while the node is active; deactivate it', config
        wanted[change.name] = change.value
    try:
        return '', NodeConfig(**{**vars(config), **wanted})
    except ValueError as error:
        return str(error), config
