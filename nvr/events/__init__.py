"""The broker of events: properties, subscriptions with their filters, delivery (ONVIF Core 9)."""
