"""The ``fleet`` command's groups, one module each; every module has a click object named ``command``."""
