// Modules that hold programs for the tests, which no Debian package has: matchbox, and an iPXE with IMAGE_TRUST_CMD. scripts/setup.sh
// fetches them; nothing is imported from them.
module bootwright/testkit/programs

go 1.21

require (
	github.com/poseidon/matchbox v0.10.0
	github.com/tinkerbell/ipxedust v0.0.0-20241108174245-aa0c0298057d
)
