"""The platform on several machines, as deploy/celery sets it up, run for real on this one."""
