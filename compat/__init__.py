"""Faces under which programs written for other runtimes run on this one."""
