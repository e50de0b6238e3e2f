"""Notifications: findings that begin and end are reported to Alertmanager and to webhooks."""
