"""A bag through the node, over ROS as on the vehicle; ends with the bag.

ros2 launch anomaly_seg_ros replay.launch.py bag:=BAG image_topic:=/camera/image_raw record:=OUT

Every argument has a help text: add --show-args.
"""

import os

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import (
    EmitEvent,
    ExecuteProcess,
    GroupAction,
    IncludeLaunchDescription,
    OpaqueFunction,
    RegisterEventHandler,
)
from launch.event_handlers import OnProcessExit
from launch.events import Shutdown

from anomaly_seg_ros.node import launch_files, launch_support, middleware_profile
from anomaly_seg_ros.ros import launch_actions

FILE = 'replay.launch.py'


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription(
        [
            *launch_actions.declared(launch_files.REPLAY_ARGUMENTS),
            OpaqueFunction(function=replay),
        ]
    )


def replay(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """The node, the player and, where it is asked for, the recorder."""
    arguments = launch_support.expanded(
        launch_actions.values(context, launch_files.REPLAY_ARGUMENTS)
    )
    profile = middleware_profile.shm_profile_environment(arguments['shm_profile'], os.environ)
    player = ExecuteProcess(
        cmd=launch_files.play_command(
            launch_files.given_bag(arguments['bag']),
            launch_support.to_seconds('rate', arguments['rate']),
            launch_support.to_seconds('delay', arguments['delay']),
        ),
        # It is the sender whose segment counts.
        additional_env=profile.variables,
        output='screen',
    )
    node = IncludeLaunchDescription(
        launch_actions.launch_file(launch_files.MAIN_FILE),
        launch_arguments=list(launch_files.of_replay(arguments).items()),
    )
    end = EmitEvent(event=Shutdown(reason='the bag has ended'))
    said = launch_actions.warned(FILE, context)
    return [
        *said,
        GroupAction([node]),
        *(
            ExecuteProcess(cmd=command, output='screen')
            for command in launch_files.record_commands(
                arguments, middleware_profile.ros_distro(os.environ)
            )
        ),
        RegisterEventHandler(OnProcessExit(target_action=player, on_exit=[end])),
        player,
    ]
