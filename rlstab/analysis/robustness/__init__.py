"""What a push, a change of the robot, a delay or an attack does to a policy."""
