// The tunnel through which PID1 fetches a root over https. Only Go's own library.
module bootwright/programs/https

go 1.26.8
