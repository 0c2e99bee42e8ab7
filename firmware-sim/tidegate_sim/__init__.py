"""Devices that do not exist: a fleet that drives and machines that fail, speaking as real firmware would.

roads, vehicle, machine, faults     what the devices do: pure, stepped by elapsed time, decided by a seed
scenario, truth                     a whole fleet with fences and limits, and what truly happened to it
packet_device, serial_ports, mqtt   how they speak: firmware packets, pseudo-terminals, an MQTT client
fleet, replay, load                 what `tidegate sim` runs
"""
