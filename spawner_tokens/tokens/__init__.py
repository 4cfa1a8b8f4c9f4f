"""Declare, select, render: what a server gets. Pure: the standard library alone."""
