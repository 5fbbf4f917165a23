"""ControlNets whose weights diffusers' own classes cannot hold, one module per family."""
