"""Installs the project for tools that call this file; pyproject.toml says what it is."""

from setuptools import setup

setup()
