"""Monitors of clients: which SDK versions lose events or fire twice, told apart from chance."""
