"""Edgeloop's Airflow floor: operators, sensors, triggers and hooks, one module per stage."""
