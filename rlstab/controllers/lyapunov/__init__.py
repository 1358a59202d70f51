"""Controllers that are trained together with the Lyapunov function that certifies them."""
