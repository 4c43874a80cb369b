#!/bin/sh
# The demo's governors: their folders and passphrases, the key ceremony, and how they vote.
#
# Each is a folder with the share encrypted in it and a script that runs `borgios` as that governor
# on the lab's laptop. A real governor types the passphrase; here it comes from a file, through a
# file descriptor, so that it stands in no argument and in no environment.

do_governors() {
    for who in $GOVERNORS; do
        [ -s "$DEMO/$who.passphrase" ] ||
            (umask 077; head -c 20 /dev/urandom | base32 >"$DEMO/$who.passphrase") || fail "cannot write $DEMO/$who.passphrase"
        cat >"$DEMO/$who" <<TEXT
#!/bin/sh
# Runs borgios as the governor $who, on the lab's laptop; made by ./bootstrap.sh demo.
export LAB_NAME=$LAB_NAME LAB_NET=$LAB_NET BORGIOS_HOME='$DEMO/$who.home'
exec '$LAB' run '$DEMO/bin/borgios' "\$@" 3<'$DEMO/$who.passphrase'
TEXT
        chmod 755 "$DEMO/$who"
        [ -e "$DEMO/$who.home/governor/card.json" ] || quiet "$DEMO/$who" governor init --name "$who" --passphrase-fd 3
        did "$who: borgios governor init --name $who"
    done
    checked "the identity is ciphertext: $(head -n 1 "$DEMO/ann.home/governor/identity.age")"
    yourself "cat .demo/ann.home/governor/card.json   (the public half: an SSH key and an age recipient)"
}

do_ceremony() {
    mkdir -p "$DEMO/exchange"
    did "each runs: borgios governor found --exchange .demo/exchange, again and again until it says done"
}
