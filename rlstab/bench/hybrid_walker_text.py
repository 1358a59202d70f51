"""What the page about the walker says of how it was made."""

ABOUT = """
A compass walker (two legs, a hip torque of at most 4 N m, Euler steps of 5 ms) walks near one gait and shall walk in
another. *One goal*: sources are rows 2 to 8 of the table of gaits, the goal is the gait of 0.1305 rad. *Many goals*:
80 pairs of rows that lead from one half of the table to the other. Starts are off by up to (0.01, 0.02, 0.1, 0.2) in
(q1, q2, their rates), the same starts for every controller. *Reached*: within ten steps, `q1` after an impact is within
0.01 rad of the goal's. *First step*: done upright. *Lasting*: five more steps done after that, the last again within
0.01 rad. Steps of more than 2 s count as falls. *Time* is from the start to reaching, of those that do; *error* is the
root mean square difference of the states after impacts to the goal's, of those that do a step. Intervals are 95 %
bootstraps over starts, and over trainings where there are several.

All but the last three kinds of controllers choose gait angles at impacts, and the gait's CLF-QP makes the torque.

* *planner, networks*: the [region-of-attraction planner](../roa_walker.md) on the networks of
  `rlstab train roa --env rlstab/Walker-v0`, with bridges: gait angles that are held for part of a step only. *No
  bridges* chooses at impacts alone, *descent* goes on from the grid by gradient descent (the differentiable planner).
* *planner, orbit distance*: the same planner on hand-made functions without a network: squared distance to the gait's
  orbit, at levels measured by roll-outs.
* *planner, simulated*: the same planner where a candidate counts as safe if its next steps succeed in simulation. It
  knows in and out only, where `V` also says how far. *No bridges*: every gait at every impact is tried, no more.
* *look-ahead, simulated*: of 29 gaits the one nearest to the goal whose next two steps succeed in simulation.
* *MPC, simulated*: the best of all pairs of 9 gaits for the next two steps, each simulated.
* *CLF-QP, goal at once*: no planner.
* *reachability table*: least time to the goal, by torques of 4, 0 and -4 N m held for 50 ms; made for one goal.
* *SAC*, *PPO*: trained in the environment, short budget, no more than that; what was not run is listed below.

Shares are not those of the literature, whose baselines reach 0.550 (one goal) and 0.700 (many goals): starts are drawn
from other seeds, with `q1` kept at 0.01 rad at least; a goal counts if any of ten steps comes close to it, and falls
after that count in *lasting* alone; many goals begin 3 times (the default) from each of the 80 pairs, 240 starts, where
the literature begins 10 times. By how much each of these matters was not measured: compare within this page.
"""

CAPTION = """
The slice: states in which a step of 0.13 rad begins with the legs of that gait, by their rates. Dots stay in the gait
in simulation, the line is the level of the first training. States are sampled, and claims made, for stance rates above
-0.95 rad/s only.
"""
