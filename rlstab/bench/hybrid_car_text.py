"""What the page about the car says of how it was made."""

ABOUT = """
A car (single-track model with linear tyres) drives along roads of 20 straight pieces that turn at knots by up to 45
degrees; friction changes between knots, dry to ice (0.1). Controls are limited to 8 rad/s of steering rate and 8 m/s^2;
the steering angle is not limited. *rmse*: root of the mean squared error state (7 numbers, in m, rad, m/s, rad/s)
against the reference that was driven after. *valid*: share of steps before the car is 3 m beside it. *steps*: travel
time in steps of 10 ms. The two belong together: whoever drives slower errs less. *off road*: root mean square distance
to the middle of the road, for all alike: a planner may move nodes by 1 m, and its rmse is against what it chose.

The **planner** chooses at every switch the node's shift and two speeds, by networks that say how much squared error is
still to come (`V`) and below which `V` the controller holds (the level). **By hand** means the same planner with the
Lyapunov functions of linear regulators and no level. *Cost* is squared error over time plus 0.2 for every second,
per drive: what the planner with that weight minimises. *LQR tuned* has a control weight of 0.01, found on other roads
than these; the benchmark's LQR has 1. *One mode*: the trained controller told dry road at 10 m/s wherever it is. MPC
minimises the squared error over its horizon in one mode, drives 10 steps of each plan, and plans anew at a switch.
Times by the clock are of a machine that others used too: see the load below, and compare within a table.
"""
