"""A bag through the node, over ROS as on the vehicle; ends with the bag.

ros2 launch anomaly_seg_ros replay.launch.py bag:=BAG image_topic:=/camera/image_raw record:=OUT

Every argument has a help text: add --show-args.
"""

import os
import sys

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    ExecuteProcess,
    GroupAction,
    IncludeLaunchDescription,
    LogInfo,
    OpaqueFunction,
    RegisterEventHandler,
)
from launch.event_handlers import OnProcessExit
from launch.events import Shutdown
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.substitutions import FindPackageShare

from anomaly_seg_ros.node import launch_files, launch_support, topics
from anomaly_seg_ros.node.launch_typos import check_arguments

FILE = 'replay.launch.py'


def generate_launch_description() -> LaunchDescription:
    share = FindPackageShare(topics.PACKAGE)
    defaults = {'params_file': PathJoinSubstitution([share, 'config', launch_support.PARAMS_FILE])}
    return LaunchDescription(
        [
            *(
                DeclareLaunchArgument(
                    argument.name,
                    default_value=defaults.get(argument.name, argument.default),
                    description=argument.help,
                    choices=argument.choices or None,
                )
                for argument in launch_files.REPLAY_ARGUMENTS
            ),
            OpaqueFunction(function=replay),
        ]
    )


def replay(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """The node, the player and, where it is asked for, the recorder."""
    arguments = launch_support.expanded(
        {
            argument.name: LaunchConfiguration(argument.name).perform(context)
            for argument in launch_files.REPLAY_ARGUMENTS
        }
    )
    profile = launch_support.shm_profile_environment(arguments['shm_profile'], os.environ)
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
        PythonLaunchDescriptionSource(
            PathJoinSubstitution(
                [FindPackageShare(topics.PACKAGE), 'launch', launch_files.MAIN_FILE]
            )
        ),
        launch_arguments=list(launch_files.of_replay(arguments).items()),
    )
    end = EmitEvent(event=Shutdown(reason='the bag has ended'))
    warnings = check_arguments(FILE, sys.argv, context.argv, context.launch_configurations)
    return [
        *(LogInfo(msg=f'WARNING: {warning}') for warning in warnings),
        GroupAction([node]),
        *(
            ExecuteProcess(cmd=command, output='screen')
            for command in launch_files.record_commands(
                arguments, launch_support.ros_distro(os.environ)
            )
        ),
        RegisterEventHandler(OnProcessExit(target_action=player, on_exit=[end])),
        player,
    ]
