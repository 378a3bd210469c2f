"""An image onto devices, ring by ring: plan, switch, gate, restore."""
