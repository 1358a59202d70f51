"""What the page about the hopper says of how it was made."""

ABOUT = """
Each controller hops through the same random corridors of the benchmark, in the exact environment
(`rlstab.envs.hybrid.pogobot`): touchdown is on the floor under the foot, a foot that runs into a step has failed. A
corridor is *passed* when its last segment is reached before anything is hit; *valid* is the share of the way before a
hit. Errors of speed are of the time in flight, against the speed of the segment; they and the travel time are means
over the corridors that the controller passes (with every seed), because a hop that fails ends early: compare them in
the table of differences, which takes corridors that both pass. Deciding is planning and control of one hop, on one
thread, without the first hop of each corridor; hops last two thirds of a second. By the clock it is what others left
of the machine; CPU time is what to compare. Intervals are exact (Clopper and Pearson) for shares, and 95 % bootstraps
over corridors for differences, each corridor's value being the mean over seeds: they are about corridors of this
generator, and about these trainings.

* *RoA planner*: networks of `rlstab train roa` and the planner of [the method](../roa_pogobot.md); *sampling* is its
  grid, *differentiable* goes on by descent. *Ignores the sets*: the same planner without the term that keeps a mode's
  beginning inside its region of attraction. *No planner*: the mode controller alone follows each segment's reference.
  Variants are flown with the first seed alone.
* *Hand-made functions*: the same planner with no network in it: exact hops, linear deadbeat feedback from tables, a
  plain sum of squares, and measured levels from a table.
* *Deadbeat*: each hop brings the next apex to the reference of the segment, by bounded least squares on the exact
  map; with the *border band*, from 2.5 m before a border the height to aim at is one that the border can be passed
  with. In the literature's simulator, which shifts the body's height where the foot crosses a border, the two pass 28
  and 36 of 40; here a foot that runs into a step has failed.
* *MPC*: four hops by IPOPT on the learned map with soft walls, built once, warm-started. The horizon is the best of
  3, 4 and 5 on corridors of other seeds.
* *PPO* and *SAC* with their defaults, far fewer steps than they are usually given: what they reach in this budget,
  not what they could.

Settings of the planner and the horizon of MPC were chosen on corridors of the seeds 1000 to 1039, which are not among
those here.
"""
