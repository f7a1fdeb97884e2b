"""One camera on the vehicle: the node, with RViz on request.

ros2 launch anomaly_seg_ros anomaly_seg.launch.py image_topic:=/camera/image_raw rviz:=true

Every argument has a help text: add --show-args.
"""

import os

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import (
    EmitEvent,
    ExecuteProcess,
    IncludeLaunchDescription,
    LogInfo,
    OpaqueFunction,
    RegisterEventHandler,
)
from launch.conditions import IfCondition
from launch.event_handlers import OnProcessExit
from launch.events import matches_action
from launch.events.process import ProcessExited, ShutdownProcess
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from anomaly_seg_ros.node import launch_support, middleware_profile, topics
from anomaly_seg_ros.node.respawn import RespawnLimit
from anomaly_seg_ros.ros import launch_actions

FILE = 'anomaly_seg.launch.py'


def generate_launch_description() -> LaunchDescription:
    rviz = launch_actions.launch_file('rviz.launch.py')
    return LaunchDescription(
        [
            *launch_actions.declared(launch_support.NODE_ARGUMENTS),
            OpaqueFunction(function=start_node),
            IncludeLaunchDescription(
                rviz,
                launch_arguments=[
                    (argument.name, LaunchConfiguration(argument.name))
                    for argument in launch_support.RVIZ_ARGUMENTS
                ],
                condition=IfCondition(LaunchConfiguration('rviz')),
            ),
        ]
    )


def start_node(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """The node, once the arguments have their values: only what the user set goes to it."""
    arguments = launch_support.expanded(
        launch_actions.values(context, launch_support.NODE_ARGUMENTS)
    )
    namespace, name = arguments['namespace'], arguments['node_name']
    overrides = {
        key: value if isinstance(value, list) else ParameterValue(value, value_type=type(value))
        for key, value in launch_support.parameter_overrides(arguments).items()
    }
    profile = middleware_profile.shm_profile_environment(arguments['shm_profile'], os.environ)
    logger = launch_support.logger_name(namespace, name)

    respawn = launch_support.to_bool('respawn', arguments['respawn'])
    node = Node(
        package=topics.PACKAGE,
        executable=topics.NODE_EXECUTABLE,
        # Both, so that the overrides get the node's full name and win over any file entry.
        name=name,
        namespace=namespace,
        parameters=[arguments['params_file'], *([overrides] if overrides else [])],
        remappings=launch_support.input_remappings(arguments),
        # A bare level would turn on the debug output of the middleware as well.
        ros_arguments=['--log-level', f'{logger}:={arguments["log_level"]}'],
        additional_env=profile.variables,
        respawn=respawn,
        respawn_delay=launch_support.to_seconds('respawn_delay', arguments['respawn_delay']),
        output='screen',
        emulate_tty=True,
    )
    said = launch_actions.warned(FILE, context, profile.warning)
    return [*said, *([limited(node, RespawnLimit())] if respawn else []), node]


def limited(node: ExecuteProcess, limit: RespawnLimit) -> RegisterEventHandler:
    """Ends the respawn of a process that ends again and again."""

    def look(event: ProcessExited, context: LaunchContext) -> list[LaunchDescriptionEntity]:
        why_not = limit.ended()
        if context.is_shutdown or not why_not:
            return []
        # Of a process that waits for its next start, this takes the start away.
        end = ShutdownProcess(process_matcher=matches_action(node))
        return [LogInfo(msg=f'ERROR: {why_not}'), EmitEvent(event=end)]

    return RegisterEventHandler(OnProcessExit(target_action=node, on_exit=look))
